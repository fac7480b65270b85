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


class Same(nn.Conv2d):
    """TensorFlow's padding: the odd pixel stands after."""

    def forward(self, x):
        (k, _), (s, _) = self.kernel_size, self.stride
        pad = [max((-(-n // s) - 1) * s + k - n, 0) for n in (x.shape[3], x.shape[2]) for _ in (0, 1)]
        pad = [pad[0] // 2, pad[0] - pad[0] // 2, pad[2] // 2, pad[2] - pad[2] // 2]
        if pad[0] == pad[1] and pad[2] == pad[3]:
            return F.conv2d(x, self.weight, None, s, (pad[2], pad[0]), 1, self.groups)
        return F.conv2d(F.pad(x, pad), self.weight, None, s, 0, 1, self.groups)


def unit(i, o, k, s=1, groups=1, act=True):
    parts = [Same(i, o, k, s, groups=groups, bias=False), nn.BatchNorm2d(o, eps=1e-3, momentum=0.01)]
    return nn.Sequential(*parts, *([nn.ReLU6(inplace=True)] if act else []))


class Inverted(nn.Module):
    def __init__(self, i, o, k, s, expansion):
        super().__init__()
        wide = i * expansion
        expand = [unit(i, wide, 1)] if expansion > 1 else []
        self.body = nn.Sequential(*expand, unit(wide, wide, k, s, wide), unit(wide, o, 1, act=False))
        self.add = s == 1 and i == o

    def forward(self, x):
        return self.body(x) + x if self.add else self.body(x)


class Lite0(nn.Module):
    """EfficientNet-Lite0, frozen up to and with block 8 when it trains, all batch norms on running statistics."""

    def __init__(self):
        super().__init__()
        plan = [(1, 3, 1, 1, 32, 16), (2, 3, 2, 6, 16, 24), (2, 5, 2, 6, 24, 40), (3, 3, 2, 6, 40, 80),
                (3, 5, 1, 6, 80, 112), (4, 5, 2, 6, 112, 192), (1, 3, 1, 6, 192, 320)]
        blocks = [Inverted(i if r == 0 else o, o, k, s if r == 0 else 1, e) for n, k, s, e, i, o in plan for r in range(n)]
        self.lower = nn.Sequential(unit(3, 32, 3, 2), *blocks[:9]).requires_grad_(False)
        self.upper = nn.Sequential(*blocks[9:], unit(320, 1280, 1))
        self.dropout, self.head = nn.Dropout(0.2), nn.Linear(1280, 1000)

    def train(self, training=True):
        super().train(training)
        for m in self.modules():
            if isinstance(m, nn.BatchNorm2d):
                m.eval()
        return self

    def forward(self, x):
        return self.head(self.dropout(self.upper(self.lower(x)).mean((2, 3))))


def images(training, make=resnet18, batch=8, side=224):
    def prepare():
        model = make().train(training)
        params = [p for p in model.parameters() if p.requires_grad]
        opt = torch.optim.SGD(params, lr=1e-3, momentum=0.9, nesterov=True, weight_decay=1e-4)
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
workloads |= {"lite0-step-b48-96": (9, images(True, Lite0, 48, 96)), "lite0-infer-b48-96": (9, images(False, Lite0, 48, 96))}
for t in [128, 256, 512, 1024, 2048, 4096]:
    workloads[f"gpt-length-{t}"] = (3, train(layers=2, batch=4096 // t, t=t))
for heads in [2, 4, 8, 12]:
    workloads[f"gpt-width-{64 * heads}"] = (3, train(layers=2, d=64 * heads, heads=heads, batch=4))

if __name__ == "__main__":
    run(workloads)
