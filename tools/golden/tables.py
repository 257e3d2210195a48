"""Rotary, vision and position tables by transformers 4.57.3: writes tests/data/golden/{tables.safetensors,rotary.json}.
Run from the repository root: tables.py GOLDEN.safetensors, with the float activations of the golden sample."""
import sys
import json, torch, numpy as np
from safetensors.torch import load_file, save_file
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS
from transformers import LlamaConfig
g=load_file(sys.argv[1]); w=load_file('assets/pixie/model.safetensors')
k=[k for k in w if 'pos_embed' in k][0]; print(k,w[k].shape,w[k].dtype)
out={'position_ids':g['0.position_ids'][:,0].to(torch.int32),'cos':g['0.rope.cos'][0],'sin':g['0.rope.sin'][0],'angles':g['0.vision.rope_freqs'],
 'pos_embed':g['0.vision.pos_embed'][:,:48].contiguous(),'table':w[k].float()[:,:48].contiguous()}
out={k:v.contiguous() for k,v in out.items()}
save_file(out,'tests/data/golden/tables.safetensors')
# many grids with the reference code
from transformers.models.qwen3_vl.modeling_qwen3_vl import Qwen3VLVisionModel
from transformers.models.qwen3_vl.configuration_qwen3_vl import Qwen3VLVisionConfig
c=Qwen3VLVisionConfig(depth=1,hidden_size=16,num_heads=2,intermediate_size=8,num_position_embeddings=25,out_hidden_size=8,deepstack_visual_indexes=[],spatial_merge_size=2)
torch.manual_seed(0); m=Qwen3VLVisionModel(c)
with torch.no_grad():
  t=(torch.arange(25*16).reshape(25,16)*37%101).float()/64; m.pos_embed.weight.copy_(t)
  grids=torch.tensor([[1,4,6],[3,2,8],[1,2,2]])
  pe=m.fast_pos_embed_interpolate(grids); an=m.rot_pos_emb(grids)
vis=dict(grids=grids.tolist(),pos_embed=pe[:, :2].tolist(),angles=an.tolist())
cases=[]
def case(name,cfg,pos):
    inv,att=ROPE_INIT_FUNCTIONS[cfg.rope_scaling['rope_type'] if cfg.rope_scaling else 'default'](cfg,None)
    p=torch.tensor(pos).float()
    f=(inv[None,:,None].float()@p[None,None,:]).transpose(1,2)[0]
    cases.append(dict(name=name,head_dim=cfg.head_dim,theta=cfg.rope_theta,scaling=cfg.rope_scaling,attention=att,positions=pos,inv_freq=inv.tolist(),cos=(f.cos()*att).tolist(),sin=(f.sin()*att).tolist()))
pos=[0,1,77,4095,131071]
L=lambda **k: LlamaConfig(num_attention_heads=2,max_position_embeddings=131072,**k)
case('default 5e6',L(head_dim=128,hidden_size=256,rope_theta=5e6),pos)
case('default 1e4',L(head_dim=64,hidden_size=128,rope_theta=1e4),pos)
case('linear',L(head_dim=32,hidden_size=64,rope_theta=1e4,rope_scaling=dict(rope_type='linear',factor=4.0)),pos)
case('llama3',L(head_dim=64,hidden_size=128,rope_theta=5e5,rope_scaling=dict(rope_type='llama3',factor=32.0,low_freq_factor=1.0,high_freq_factor=4.0,original_max_position_embeddings=8192)),pos)
case('yarn',L(head_dim=64,hidden_size=128,rope_theta=1e6,rope_scaling=dict(rope_type='yarn',factor=4.0,original_max_position_embeddings=32768)),pos)
case('yarn mscale',L(head_dim=64,hidden_size=128,rope_theta=1e4,rope_scaling=dict(rope_type='yarn',factor=40.0,original_max_position_embeddings=4096,mscale=1.0,mscale_all_dim=0.5,beta_fast=32,beta_slow=1,truncate=False)),pos)
def r(x): 
    return [r(y) for y in x] if isinstance(x,list) else float(np.format_float_positional(np.float32(x),unique=True)) if isinstance(x,float) else x
for c_ in cases:
    for k in ('inv_freq','cos','sin'): c_[k]=r(c_[k])
vis['pos_embed']=r(vis['pos_embed']); vis['angles']=r(vis['angles'])
json.dump(dict(rotary=cases,vision=vis),open('tests/data/golden/rotary.json','w'))
