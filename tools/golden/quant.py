"""Grids, fake quantization and MX blocks by TICO 0.3.0, as bit patterns: writes tests/data/golden/quant.json.
Run from the repository root, in an environment with torch and tico."""
import sys
import torch, json, numpy as np
from tico.quantization.wrapq.observers.minmax import MinMaxObserver
from tico.quantization.wrapq.observers.mx import MXObserver
from tico.quantization.wrapq.dtypes import DType
from tico.quantization.wrapq.qscheme import QScheme
torch.manual_seed(3)
bits=lambda t: [int(x) for x in t.contiguous().float().numpy().view(np.uint32).ravel()]
x=torch.randn(6,16)*torch.tensor([1,.01,30,.1,400,2.])[:,None]; x[4]+=500
x[0,0]=0.5
aff=[]
for dn,d in (('uint4',DType.uint(4)),('uint8',DType.uint(8)),('int8',DType.int(8)),('int16',DType.int(16))):
  for s in QScheme:
    if 'symm'==s.name.lower().split('_')[-1] and dn[0]=='u': continue
    pc='channel' in s.name.lower()
    for axis in ((0,1) if pc else (None,)):
      o=MinMaxObserver(name='t',dtype=d,qscheme=s,**({'channel_axis':axis} if pc else {}))
      o.collect(x); sc,zp=o.compute_qparams(); y=o.fake_quant(x*1.1)
      aff.append(dict(dtype=dn,symmetric=s.name.lower().endswith('_symm'),axis=axis,scale=bits(sc),zero_point=[int(v) for v in zp.ravel()],y=bits(y)))
mx=[]
z=torch.randn(3,40)*torch.logspace(-6,6,40)
z[1,3]=15.999999; z[1,4]=-0.99999994
for f in ('int8','int4','int2','fp8_e5m2','fp8_e4m3','fp6_e3m2','fp6_e2m3','fp4'):
  for axis in (0,1):
    if f in ("int4","int2"): continue
    try: o=MXObserver(name='t',elem_format=f,axis=axis); y=o.fake_quant(z); mx.append(dict(format=f,axis=axis,y=bits(y)))
    except Exception as e: print(f,axis,repr(e)[:200])
json.dump(dict(x=bits(x),fed=bits(x*1.1),affine=aff,z=bits(z),mx=mx),open('tests/data/golden/quant.json','w'),separators=(',',':'))
