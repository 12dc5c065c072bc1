import sys, time, cProfile, pstats
from netsim import scenario
from netsim.sim import simulation, node
from learnae.coordinator import Coordinator
prof=cProfile.Profile()
f=Coordinator._update_heard
def g(self,e,n):
    prof.enable(); r=f(self,e,n); prof.disable(); return r
o=Coordinator.__init__
def init(self,*a,**k):
    o(self,*a,**k)
    from learnae.coordinator import events
    self._on[events.UpdateHeard]=lambda e,n: g(self,e,n)
Coordinator.__init__=init
s=scenario.load("thousand",{"nodes.0.count":100,"run.seconds":14400.0,"run.quiet":1.0,"run.evaluate":14400.0})
sim=simulation.Simulation("t",s,0)
r=sim.run()
pstats.Stats(prof).sort_stats("tottime").print_stats(28)
