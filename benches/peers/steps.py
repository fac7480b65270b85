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

    def forward(self, x, cache=None):
        b, t, d = x.shape
        q, k, v = (z.view(b, t, self.heads, d // self.heads).transpose(1, 2) for z in self.qkv(self.ln1(x)).split(d, 2))
        if cache is not None:
            keys, values, at = cache
            keys[:, :, at : at + t], values[:, :, at : at + t] = k, v
            k, v = keys[:, :, : at + t], values[:, :, : at + t]
        y = F.scaled_dot_product_attention(q, k, v, is_causal=t > 1).transpose(1, 2).reshape(b, t, d)
        x = x + self.out(y)
        return x + self.down(F.gelu(self.up(self.ln2(x)), approximate="tanh"))


class Gpt(nn.Module):
    def __init__(self, layers, d, heads, vocab, t):
        super().__init__()
        self.tokens, self.positions = nn.Embedding(vocab, d), nn.Embedding(t, d)
        self.blocks = nn.ModuleList(Block(d, heads) for _ in range(layers))
        self.norm, self.head = nn.LayerNorm(d), nn.Linear(d, vocab, bias=False)

    def forward(self, ids, caches=None, at=0):
        x = self.tokens(ids) + self.positions.weight[at : at + ids.shape[1]]
        for i, block in enumerate(self.blocks):
            x = block(x, None if caches is None else (*caches[i], at))
        return self.head(self.norm(x if caches is None else x[:, -1:]))


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


def write(batch, prompt=32, new=128):
    def prepare():
        model = Gpt(6, 384, 6, 8000, 256).eval()
        start = torch.randint(0, 8000, (batch, prompt))

        @torch.inference_mode()
        def step():
            caches = [[torch.empty(batch, 6, prompt + new, 64) for _ in range(2)] for _ in model.blocks]
            ids, at = start, 0
            for _ in range(new):
                logits = model(ids, caches, at)[:, -1]
                at += ids.shape[1]
                top, index = logits.topk(50)
                ids = index.gather(1, torch.multinomial(top.softmax(-1), 1))

        return step

    return prepare


class Residual(nn.Module):
    def __init__(self, i, o, stride):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(i, o, 3, stride, 1, bias=False), nn.BatchNorm2d(o)
        self.conv2, self.bn2 = nn.Conv2d(o, o, 3, 1, 1, bias=False), nn.BatchNorm2d(o)
        project = stride != 1 or i != o
        self.down = nn.Sequential(nn.Conv2d(i, o, 1, stride, bias=False), nn.BatchNorm2d(o)) if project else nn.Identity()

    def forward(self, x):
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)), inplace=True)))
        return F.relu(y + self.down(x), inplace=True)


def resnet18():
    plan = [(64, 64, 1), (64, 64, 1), (64, 128, 2), (128, 128, 1), (128, 256, 2), (256, 256, 1), (256, 512, 2), (512, 512, 1)]
    stem = [nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2, 1)]
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, 1000)]
    return nn.Sequential(*stem, *(Residual(*p) for p in plan), *head)


def images(training, batch=8, side=224):
    def prepare():
        model = resnet18().train(training)
        opt = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9, nesterov=True, weight_decay=1e-4)
        x, targets = torch.randn(batch, 3, side, side), torch.randint(0, 1000, (batch,))

        def step():
            loss = F.cross_entropy(model(x), targets)
            opt.zero_grad()
            loss.backward()
            opt.step()

        @torch.inference_mode()
        def infer():
            model(x)

        return step if training else infer

    return prepare


workloads = {"gpt-step-f32": (9, train()), "generate-b1": (5, write(1)), "generate-b16": (5, write(16))}
workloads |= {"resnet18-step-b8-224": (9, images(True)), "resnet18-infer-b8-224": (9, images(False))}
for t in [128, 256, 512, 1024, 2048, 4096]:
    workloads[f"gpt-length-{t}"] = (3, train(layers=2, batch=4096 // t, t=t))
for heads in [2, 4, 8, 12]:
    workloads[f"gpt-width-{64 * heads}"] = (3, train(layers=2, d=64 * heads, heads=heads, batch=4))

if __name__ == "__main__":
    run(workloads)
