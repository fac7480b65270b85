"""The workloads of `bench steps` in eager PyTorch."""
import torch, torch.nn as nn, torch.nn.functional as F
from measure import run


class Block(nn.Module):
    def __init__(self, d, heads):
        super().__init__()
        self.heads = heads
        self.ln1, self.ln2 = nn.LayerNorm(d), nn.LayerNorm(d)
        self.qkv, self.out = nn.Linear(d, 3 * d), nn.Linear(d, d)
        self.up, self.down = nn.Linear(d, 4 * d), nn.Linear(4 * d, d)

    def forward(self, x):
        b, t, d = x.shape
        q, k, v = (z.view(b, t, self.heads, d // self.heads).transpose(1, 2) for z in self.qkv(self.ln1(x)).split(d, 2))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).reshape(b, t, d)
        x = x + self.out(y)
        return x + self.down(F.gelu(self.up(self.ln2(x)), approximate="tanh"))


class Gpt(nn.Module):
    def __init__(self, layers, d, heads, vocab, t):
        super().__init__()
        self.tokens, self.positions = nn.Embedding(vocab, d), nn.Embedding(t, d)
        self.blocks = nn.ModuleList(Block(d, heads) for _ in range(layers))
        self.norm, self.head = nn.LayerNorm(d), nn.Linear(d, vocab, bias=False)

    def forward(self, ids):
        x = self.tokens(ids) + self.positions.weight[: ids.shape[1]]
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x))


def train(layers=6, d=384, heads=6, vocab=8000, batch=8, t=256):
    def prepare():
        model = Gpt(layers, d, heads, vocab, t)
        opt = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
        ids, targets = (torch.randint(0, vocab, (batch, t)) for _ in range(2))

        def step():
            loss = F.cross_entropy(model(ids).view(-1, vocab), targets.view(-1))
            opt.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            opt.step()

        return step

    return prepare


workloads = {"gpt-step-f32": (9, train())}
for t in [128, 256, 512, 1024, 2048, 4096]:
    workloads[f"gpt-length-{t}"] = (3, train(layers=2, batch=4096 // t, t=t))
for heads in [2, 4, 8, 12]:
    workloads[f"gpt-width-{64 * heads}"] = (3, train(layers=2, d=64 * heads, heads=heads, batch=4))

if __name__ == "__main__":
    run(workloads)
