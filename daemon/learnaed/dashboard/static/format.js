// Numbers, sizes and times for people; used by all views. What is not known is a dash.

const DASH = "–";
const plain = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const known = (value) => typeof value === "number" && Number.isFinite(value);

/** 12345 as 12,345. */
export const count = (value) => (known(value) ? plain.format(value) : DASH);

/** A loss or the like with three or four significant digits. */
export function number(value) {
  if (!known(value)) return DASH;
  if (value === 0) return "0";
  const size = Math.abs(value);
  if (size >= 1000) return plain.format(value);
  return size < 1e-4 ? value.toExponential(2) : value.toPrecision(size < 1 ? 3 : 4);
}

/** 0.9612 as 96.1 %. */
export const percent = (ratio, digits = 1) => (known(ratio) ? `${(100 * ratio).toFixed(digits)} %` : DASH);

/** Bytes, decimal units: 999 B, 1.2 kB, 34.5 MB. */
export function bytes(value) {
  if (!known(value)) return DASH;
  let size = value;
  for (const unit of ["B", "kB", "MB", "GB"]) {
    if (Math.abs(size) < 1000)
      return unit === "B" ? `${Math.round(size)} B` : `${size.toFixed(size < 100 ? 1 : 0)} ${unit}`;
    size /= 1000;
  }
  return `${size.toFixed(1)} TB`;
}

/** Bytes per second. */
export const rate = (value) => (known(value) ? `${bytes(value)}/s` : DASH);

/** Seconds: 59 s, 3 min, 2.5 h, 4.0 d. */
export function duration(seconds) {
  if (!known(seconds)) return DASH;
  if (seconds < 100) return `${Math.round(seconds)} s`;
  if (seconds < 5940) return `${Math.round(seconds / 60)} min`;
  return seconds < 172800 ? `${(seconds / 3600).toFixed(1)} h` : `${(seconds / 86400).toFixed(1)} d`;
}

/** Seconds of age, as "now" or "12 s ago". */
export const ago = (seconds) => (!known(seconds) ? DASH : seconds < 1.5 ? "now" : `${duration(seconds)} ago`);

/** Seconds since 1970 as 14:03:09, with the day where it is not today. */
export function clock(time, now = Date.now() / 1000) {
  if (!known(time)) return DASH;
  const at = new Date(1000 * time);
  const hours = at.toLocaleTimeString("en-GB");
  return at.toDateString() === new Date(1000 * now).toDateString() ? hours : `${day(at)} ${hours}`;
}

/** The same without seconds: for axes and "until". */
export function hour(time, now = Date.now() / 1000) {
  return clock(time, now).replace(/:\d\d$/, "");
}

/** 31 Jan. */
export const day = (at) => at.toLocaleDateString("en-GB", { day: "numeric", month: "short" });

/** The end of a peer id or CID, or the start of a digest: enough to tell them apart; as the commands write it. */
export function short(identity) {
  const text = String(identity ?? "");
  if (!text) return DASH;
  return text.startsWith("12D3") || text.startsWith("baf") ? text.slice(-8) : text.slice(0, 8);
}

/** "1 peer", "2 peers". */
export const plural = (many, noun) => `${count(many)} ${noun}${many === 1 ? "" : "s"}`;
