import sys, time
from collections import Counter
from netsim import scenario
from netsim.sim import simulation, node
from learnae.coordinator import Coordinator
N=int(sys.argv[1]); T=float(sys.argv[2])
t=Counter(); k=Counter(); clock=time.process_time
stack=[0.0]
def wrap(cls,name,label):
    f=getattr(cls,name)
    def g(self,*a):
        stack.append(0.0); b=clock(); r=f(self,*a); d=clock()-b
        inner=stack.pop(); l=label(a); t[l]+=d-inner; k[l]+=1; stack[-1]+=d
        return r
    setattr(cls,name,g)
wrap(node.Node,'handle',lambda a:'node.'+type(a[0]).__name__)
wrap(Coordinator,'handle',lambda a:'coord.'+type(a[0]).__name__)
wrap(Coordinator,'_after',lambda a:'after')
s=scenario.load("thousand",{"nodes.0.count":N,"run.seconds":T,"run.quiet":1.0,"run.evaluate":T})
sim=simulation.Simulation("t",s,0)
a=clock(); r=sim.run(); a=clock()-a
print("total",a,"other",a-sum(t.values()))
for l,v in t.most_common(14): print(f"{l:28s} n={k[l]:8d} total={v:7.2f} each={v/k[l]*1e6:8.1f} us")
