"""The workloads of `bench ops` in eager PyTorch."""
import torch, torch.nn.functional as F
from measure import run

N, D, V = 2048, 384, 8000
HEADS = (8, 6, 256, 64)


def op(shapes, f):
    def prepare():
        inputs = [(2 * torch.rand(s) - 1).requires_grad_() for s in shapes]
        y = f(*inputs)
        incoming = 2 * torch.rand_like(y) - 1 if y.dim() else None

        def step():
            for x in inputs:
                x.grad = None
            f(*inputs).backward(incoming)

        return step

    return 15, prepare


def ids():
    return torch.randint(0, V, (N,))


TARGETS = ids()
ANGLES = torch.outer(torch.arange(256.0), 1e4 ** (-torch.arange(0, 64, 2) / 64))
COS, SIN = torch.cat([ANGLES.cos()] * 2, -1), torch.cat([ANGLES.sin()] * 2, -1)
CAUSAL = torch.ones(256, 256, dtype=torch.bool).tril()


def rope(x):
    a, b = x.chunk(2, -1)
    return x * COS + torch.cat([-b, a], -1) * SIN


def qkv(x):
    q, k, v = (z.view(8, 256, 6, 64).transpose(1, 2) for z in x.split(D, 2))
    return F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=0.125).transpose(1, 2).reshape(8, 256, D)


def sdpa(causal):
    return lambda q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=causal, scale=0.125)


def optimiser(make):
    def prepare():
        p = (2 * torch.rand(14_000_000) - 1).requires_grad_()
        p.grad = 2 * torch.rand(14_000_000) - 1
        return make([p]).step

    return 15, prepare


def norm():
    p = torch.zeros(14_000_000, requires_grad=True)
    p.grad = 2 * torch.rand(14_000_000) - 1
    return lambda: torch.nn.utils.get_total_norm([p.grad])


workloads = {
    "layer_norm": op([(N, D), (D,), (D,)], lambda x, w, b: F.layer_norm(x, (D,), w, b)),
    "rms_norm": op([(N, D), (D,)], lambda x, w: F.rms_norm(x, (D,), w, 1e-5)),
    "softmax": op([(N, 1024)], lambda x: F.softmax(x, 1)),
    "softmax_causal": op([(48, 256, 256)], lambda x: F.softmax(x.masked_fill(~CAUSAL, float("-inf")), -1)),
    "log_softmax": op([(N, 1024)], lambda x: F.log_softmax(x, 1)),
    "cross_entropy": op([(N, V)], lambda x: F.cross_entropy(x, TARGETS)),
    "linear_cross_entropy": op([(N, D), (V, D)], lambda x, w: F.cross_entropy(x @ w.T, TARGETS)),
    "gelu_tanh": op([(N, 4 * D)], lambda x: F.gelu(x, approximate="tanh")),
    "gelu_erf": op([(N, 4 * D)], F.gelu),
    "silu": op([(N, 4 * D)], F.silu),
    "swiglu": op([(N, 4 * D), (N, 4 * D)], lambda g, u: F.silu(g) * u),
    "dropout": op([(N, 4 * D)], lambda x: F.dropout(x, 0.1)),
    "embedding": op([(V, D)], lambda w: F.embedding(TARGETS, w)),
    "rope": op([HEADS], rope),
    "linear": op([(N, D), (4 * D, D), (4 * D,)], F.linear),
    "mlp": op([(N, D), (4 * D, D), (4 * D,), (D, 4 * D), (D,)],
              lambda x, w1, b1, w2, b2: F.linear(F.gelu(F.linear(x, w1, b1), approximate="tanh"), w2, b2)),
    "attention_causal": op([HEADS] * 3, sdpa(True)),
    "attention_full": op([HEADS] * 3, sdpa(False)),
    "attention_qkv": op([(8, 256, 3 * D)], qkv),
    "adamw": optimiser(lambda p: torch.optim.AdamW(p, lr=1e-4, fused=True)),
    "sgd_nesterov": optimiser(lambda p: torch.optim.SGD(p, lr=1e-4, momentum=0.9, nesterov=True, weight_decay=1e-4, fused=True)),
    "rmsprop": optimiser(lambda p: torch.optim.RMSprop(p, lr=1e-4)),
    "global_norm": (15, norm),
}


def conv(c, side, o, k, stride=1, padding=0, groups=1):
    return op([(8, c, side, side), (o, c // groups, k, k)],
              lambda x, w: F.conv2d(x, w, None, stride, padding, 1, groups))


X = (8, 64, 56, 56)
BN = lambda x, w, b: F.batch_norm(x, None, None, w, b, True)
workloads |= {
    "conv_3x3_64": conv(64, 56, 64, 3, 1, 1),
    "conv_3x3_128": conv(128, 28, 128, 3, 1, 1),
    "conv_3x3_256": conv(256, 14, 256, 3, 1, 1),
    "conv_3x3_512": conv(512, 7, 512, 3, 1, 1),
    "conv_3x3_s2_128": conv(128, 28, 256, 3, 2, 1),
    "conv_7x7_s2": conv(3, 224, 64, 7, 2, 3),
    "conv_1x1": conv(96, 32, 24, 1),
    "depthwise_3x3": conv(96, 64, 96, 3, 1, 1, 96),
    "depthwise_5x5": conv(240, 16, 240, 5, 1, 2, 240),
    "depthwise_3x3_s2": conv(96, 64, 96, 3, 2, 1, 96),
    "depthwise_5x5_8": conv(672, 8, 672, 5, 1, 2, 672),
    "depthwise_5x5_4": conv(1152, 4, 1152, 5, 1, 2, 1152),
    "batch_norm": op([X, (64,), (64,)], BN),
    "batch_norm_add_relu": op([X, (64,), (64,), X], lambda x, w, b, r: F.relu(BN(x, w, b) + r, inplace=True)),
    "max_pool": op([(8, 64, 112, 112)], lambda x: F.max_pool2d(x, 3, 2, 1)),
    "resize_bilinear": op([(8, 64, 28, 28)], lambda x: F.interpolate(x, (56, 56), mode="bilinear")),
}

if __name__ == "__main__":
    run(workloads)
