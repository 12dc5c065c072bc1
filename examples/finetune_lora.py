"""Fine-tuning with LoRA adapters and the Trainer of Hugging Face: the adapters are shared, a twentieth of the weights.

    pip install 'learnae[transformers]'
    python finetune_lora.py --part 1/2      on one PC
    python finetune_lora.py --part 2/2      on another one, or in another terminal

Texts belong to one of four topics. Of the first half of the data four texts in five are of the first two topics, of the
second half of the others. Who trains together learns all four.
"""

import argparse
import tempfile

from learnae.integrations.transformers import LearnaeCallback  # isort: skip - says what to install if it is missing

import torch
from peft import LoraConfig, get_peft_model
from transformers import BertConfig, BertForSequenceClassification, Trainer, TrainingArguments, set_seed

from learnae.codec import CodecSettings

WORDS, TOPICS, LENGTH = 200, 4, 16


def texts(count: int, shares: list[float], seed: int) -> list[dict[str, torch.Tensor]]:
    """So many of each topic. Three words in five of a text are of its topic, which has fifty for itself."""
    random = torch.Generator().manual_seed(seed)
    labels = torch.multinomial(torch.tensor(shares), count, replacement=True, generator=random)
    words = torch.randint(WORDS, (count, LENGTH), generator=random)
    own = labels[:, None] * (WORDS // TOPICS) + torch.randint(WORDS // TOPICS, (count, LENGTH), generator=random)
    words = torch.where(torch.rand(count, LENGTH, generator=random) < 0.6, own, words)
    return [{"input_ids": text, "labels": label} for text, label in zip(words, labels, strict=True)]


def adapted() -> torch.nn.Module:
    """In your own script: a model `from_pretrained`. Here it has random weights, equal everywhere by the seed."""
    set_seed(0)
    size = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 1, "num_attention_heads": 2}
    base = BertForSequenceClassification(
        BertConfig(vocab_size=WORDS, max_position_embeddings=64, num_labels=TOPICS, initializer_range=0.1, **size)
    )
    return get_peft_model(base, LoraConfig(r=8, lora_alpha=16, target_modules=["query", "value"], task_type="SEQ_CLS"))


def accuracy(model: torch.nn.Module) -> dict[str, float]:
    """On texts of all topics that nobody trains with."""
    held_out = texts(400, [1.0] * TOPICS, seed=1)
    words, labels = (torch.stack([text[key] for text in held_out]) for key in ("input_ids", "labels"))
    return {"accuracy": (model(input_ids=words).logits.argmax(1) == labels).float().mean().item()}


options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
options.add_argument("--part", default="1/1", help="which part of the data is here (default: %(default)s)")
options.add_argument("--steps", type=int, default=1000, help="of the optimiser (default: %(default)s)")
options.add_argument("--topic", default="lora-topics", help="name of the swarm (default: %(default)s)")
chosen = options.parse_args()
part, parts = map(int, chosen.part.split("/"))
shares = [4.0 if parts == 1 or (topic < 2) == (part == 1) else 1.0 for topic in range(TOPICS)]

model = adapted()
data = texts(4000, shares, seed=1 + part)
with tempfile.TemporaryDirectory() as folder:
    arguments = TrainingArguments(
        output_dir=folder,
        max_steps=chosen.steps,
        per_device_train_batch_size=32,
        learning_rate=2e-3,
        logging_steps=50,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )
    # Adapters are small: a fifth of them in each update, in place of a fiftieth, is still but a few hundred bytes.
    codec = CodecSettings(density=0.2)
    callback = LearnaeCallback(chosen.topic, slot_seconds=1.0, round_steps=20, codec=codec, evaluate=accuracy)
    with callback:
        Trainer(model, arguments, train_dataset=data, callbacks=[callback]).train()

model.print_trainable_parameters()
print(f"steps: {callback.swarm.steps}, accuracy on all topics: {accuracy(model.eval())['accuracy']:.3f}")
