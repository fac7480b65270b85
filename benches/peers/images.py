"""The workloads of `bench images` in torchvision over Pillow, as the published code bases load their files."""
import glob, io, os, random, tempfile
import numpy as np
import PIL, PIL.ImageDraw, PIL.ImageEnhance, PIL.ImageOps
import torch
from PIL import Image
from torchvision import transforms
from measure import run

FOLDER = os.path.join(tempfile.gettempdir(), "chandlery-bench-images")
SMALL, LARGE = 100, 20


def read(size):
    return [open(path, "rb").read() for path in sorted(glob.glob(os.path.join(FOLDER, size, "*.jpg")))]


def decode(file):
    return Image.open(io.BytesIO(file)).convert("RGB")


def affine(image, *matrix):
    return image.transform(image.size, Image.AFFINE, matrix)


OPS = [
    (lambda im, m: PIL.ImageOps.autocontrast(im), 0, 1),
    (lambda im, m: PIL.ImageEnhance.Brightness(im).enhance(m), 0.05, 0.95),
    (lambda im, m: PIL.ImageEnhance.Color(im).enhance(m), 0.05, 0.95),
    (lambda im, m: PIL.ImageEnhance.Contrast(im).enhance(m), 0.05, 0.95),
    (lambda im, m: PIL.ImageOps.equalize(im), 0, 1),
    (lambda im, m: im, 0, 1),
    (lambda im, m: PIL.ImageOps.posterize(im, max(1, int(m))), 4, 8),
    (lambda im, m: im.rotate(m), -30, 30),
    (lambda im, m: PIL.ImageEnhance.Sharpness(im).enhance(m), 0.05, 0.95),
    (lambda im, m: affine(im, 1, m, 0, 0, 1, 0), -0.3, 0.3),
    (lambda im, m: affine(im, 1, 0, 0, m, 1, 0), -0.3, 0.3),
    (lambda im, m: PIL.ImageOps.solarize(im, m), 0, 256),
    (lambda im, m: affine(im, 1, 0, m * im.size[0], 0, 1, 0), -0.3, 0.3),
    (lambda im, m: affine(im, 1, 0, 0, 0, 1, m * im.size[1]), -0.3, 0.3),
]


class Strong:
    """Three of the fourteen operations at any magnitude, then a grey square."""

    def __call__(self, image):
        for op, low, high in random.choices(OPS, k=3):
            image = op(image, low + (high - low) * random.random())
        width, height = image.size
        side = random.random() * 0.5 * width
        x, y = max(0, random.uniform(0, width) - side / 2), max(0, random.uniform(0, height) - side / 2)
        image = image.copy()
        PIL.ImageDraw.Draw(image).rectangle((x, y, min(width, x + side), min(height, y + side)), (125, 123, 114))
        return image


GEOMETRY = [transforms.Resize(256), transforms.RandomCrop(224), transforms.RandomHorizontalFlip()]
NUMBERS = [transforms.ToTensor(), transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))]
WEAK = transforms.Compose(GEOMETRY + NUMBERS)
STRONG = transforms.Compose(GEOMETRY + [Strong()] + NUMBERS)


def decoding(size):
    def prepare():
        files = read(size)
        return lambda: [decode(file) and None for file in files]

    return 7, prepare


def augmenting(view):
    def prepare():
        images = [decode(file) for file in read("small")]
        return lambda: [view(image) is None for image in images]

    return 7, prepare


def both(size):
    def prepare():
        files = read(size)

        def step():
            images = [decode(file) for file in files]
            torch.stack([WEAK(image) for image in images]), torch.stack([STRONG(image) for image in images])

        return step

    return 7, prepare


workloads = {
    f"decode-small-{SMALL}": decoding("small"),
    f"decode-large-{LARGE}": decoding("large"),
    f"views-small-{SMALL}": both("small"),
    f"views-large-{LARGE}": both("large"),
    f"weak-small-{SMALL}": augmenting(WEAK),
    f"strong-small-{SMALL}": augmenting(STRONG),
}

if __name__ == "__main__":
    random.seed(0)
    np.random.seed(0)
    run(workloads)
