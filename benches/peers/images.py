"""The workloads of `bench images` on two routes: Pillow, as the published code bases load their files, and torchvision's
own decoder and its transforms on tensors of bytes. Each takes what serves it best: Pillow decodes at a part of the size
(`draft`) where fewer pixels are enough, which torchvision has not; both resize once for all views of an image."""
import glob, io, os, random, tempfile
import PIL, PIL.ImageDraw, PIL.ImageEnhance, PIL.ImageOps
import torch
from PIL import Image
from torchvision import io as tvio, transforms
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F
from measure import run

FOLDER = os.path.join(tempfile.gettempdir(), "chandlery-bench-images")
SMALL, LARGE = 100, 20
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
GREY = (125, 123, 114)


def read(size):
    return [open(path, "rb").read() for path in sorted(glob.glob(os.path.join(FOLDER, size, "*.jpg")))]


def draw_square(width):
    """Side and corner of the cutout."""
    side = random.random() * 0.5 * width
    x, y = random.uniform(0, width) - side / 2, random.uniform(0, width) - side / 2
    return max(0, x), max(0, y), min(width, x + side), min(width, y + side)


class Pillow:
    """Pillow's images; torchvision turns them into tensors."""

    @staticmethod
    def affine(image, *matrix):
        return image.transform(image.size, Image.AFFINE, matrix)

    def __init__(self):
        affine, enhance = self.affine, PIL.ImageEnhance
        self.ops = [
            (lambda im, m: PIL.ImageOps.autocontrast(im), 0, 1),
            (lambda im, m: enhance.Brightness(im).enhance(m), 0.05, 0.95),
            (lambda im, m: enhance.Color(im).enhance(m), 0.05, 0.95),
            (lambda im, m: enhance.Contrast(im).enhance(m), 0.05, 0.95),
            (lambda im, m: PIL.ImageOps.equalize(im), 0, 1),
            (lambda im, m: im, 0, 1),
            (lambda im, m: PIL.ImageOps.posterize(im, max(1, int(m))), 4, 8),
            (lambda im, m: im.rotate(m), -30, 30),
            (lambda im, m: enhance.Sharpness(im).enhance(m), 0.05, 0.95),
            (lambda im, m: affine(im, 1, m, 0, 0, 1, 0), -0.3, 0.3),
            (lambda im, m: affine(im, 1, 0, 0, m, 1, 0), -0.3, 0.3),
            (lambda im, m: PIL.ImageOps.solarize(im, m), 0, 256),
            (lambda im, m: affine(im, 1, 0, m * im.size[0], 0, 1, 0), -0.3, 0.3),
            (lambda im, m: affine(im, 1, 0, 0, 0, 1, m * im.size[1]), -0.3, 0.3),
        ]
        self.crop = transforms.Compose([transforms.RandomCrop(224), transforms.RandomHorizontalFlip()])
        self.numbers = transforms.Compose([transforms.ToTensor(), transforms.Normalize(MEAN, STD)])

    def open(self, file):
        return file

    def decode(self, file, short=None):
        image = Image.open(io.BytesIO(file))
        if short:
            image.draft("RGB", (short, short))
        return image.convert("RGB")

    def resize(self, image, short):
        width, height = image.size
        size = (short, short * height // width) if width <= height else (short * width // height, short)
        return image.resize(size, Image.BILINEAR)

    def middle(self, image):
        return transforms.functional.center_crop(image, 224)

    def cut(self, image):
        image = image.copy()
        PIL.ImageDraw.Draw(image).rectangle(draw_square(image.size[0]), GREY)
        return image


class Tensors:
    """Bytes `[3, h, w]` all the way to the floats."""

    def __init__(self):
        plain = dict(angle=0.0, translate=[0, 0], scale=1.0, shear=[0.0, 0.0])

        def affine(im, **of):
            return F.affine(im, **{**plain, **of})

        degrees = lambda m: float(torch.atan(torch.tensor(m)) * 180 / torch.pi)
        self.ops = [
            (lambda im, m: F.autocontrast(im), 0, 1),
            (lambda im, m: F.adjust_brightness(im, m), 0.05, 0.95),
            (lambda im, m: F.adjust_saturation(im, m), 0.05, 0.95),
            (lambda im, m: F.adjust_contrast(im, m), 0.05, 0.95),
            (lambda im, m: F.equalize(im), 0, 1),
            (lambda im, m: im, 0, 1),
            (lambda im, m: F.posterize(im, max(1, int(m))), 4, 8),
            (lambda im, m: F.rotate(im, m), -30, 30),
            (lambda im, m: F.adjust_sharpness(im, m), 0.05, 0.95),
            (lambda im, m: affine(im, shear=[degrees(m), 0.0]), -0.3, 0.3),
            (lambda im, m: affine(im, shear=[0.0, degrees(m)]), -0.3, 0.3),
            (lambda im, m: F.solarize(im, min(255, m)), 0, 256),
            (lambda im, m: affine(im, translate=[int(m * im.shape[2]), 0]), -0.3, 0.3),
            (lambda im, m: affine(im, translate=[0, int(m * im.shape[1])]), -0.3, 0.3),
        ]
        self.crop = v2.Compose([v2.RandomCrop(224), v2.RandomHorizontalFlip()])
        self.numbers = v2.Compose([v2.ToDtype(torch.float32, scale=True), v2.Normalize(MEAN, STD, inplace=True)])

    def open(self, file):
        return torch.frombuffer(bytearray(file), dtype=torch.uint8)

    def decode(self, file, short=None):
        return tvio.decode_jpeg(file, mode=tvio.ImageReadMode.RGB)

    def resize(self, image, short):
        return F.resize(image, [short], antialias=True)

    def middle(self, image):
        return F.center_crop(image, [224, 224])

    def cut(self, image):
        left, top, right, bottom = map(int, draw_square(image.shape[2]))
        image = image.clone()
        image[:, top:bottom, left:right] = torch.tensor(GREY, dtype=torch.uint8)[:, None, None]
        return image


class Workloads:
    """What is timed, on one route."""

    def __init__(self, route):
        self.route = route

    def strong(self, image):
        """Three of the fourteen operations at any magnitude, then a grey square."""
        for op, low, high in random.choices(self.route.ops, k=3):
            image = op(image, low + (high - low) * random.random())
        return self.route.cut(image)

    def files(self, size):
        return [self.route.open(file) for file in read(size)]

    def decoding(self, size, short=None):
        def prepare():
            files, route = self.files(size), self.route
            if short:
                return lambda: [route.resize(route.decode(file, short), short) is None for file in files]
            return lambda: [route.decode(file) is None for file in files]

        return 7, prepare

    def images(self):
        return [self.route.decode(file) for file in self.files("small")]

    def weak(self, image):
        return self.route.numbers(self.route.crop(self.route.resize(image, 256)))

    def strong_view(self, image):
        return self.route.numbers(self.strong(self.route.crop(self.route.resize(image, 256))))

    def augmenting(self, view):
        def prepare():
            images = self.images()
            return lambda: [view(image) is None for image in images]

        return 7, prepare

    def operations(self):
        def prepare():
            images = [self.route.middle(self.route.resize(image, 256)) for image in self.images()]
            return lambda: [self.strong(image) is None for image in images]

        return 7, prepare

    def both(self, size):
        def prepare():
            files, route = self.files(size), self.route

            def step():
                images = [route.resize(route.decode(file, 256), 256) for file in files]
                weak = [route.numbers(route.crop(image)) for image in images]
                strong = [route.numbers(self.strong(route.crop(image))) for image in images]
                torch.stack(weak), torch.stack(strong)

            return step

        return 7, prepare

    def all(self):
        return {
            f"decode-small-{SMALL}": self.decoding("small"),
            f"decode-large-{LARGE}": self.decoding("large"),
            f"to112-small-{SMALL}": self.decoding("small", 112),
            f"to256-large-{LARGE}": self.decoding("large", 256),
            f"weak-small-{SMALL}": self.augmenting(self.weak),
            f"strong-small-{SMALL}": self.augmenting(self.strong_view),
            f"randaugment-small-{SMALL}": self.operations(),
            f"views-small-{SMALL}": self.both("small"),
            f"views-large-{LARGE}": self.both("large"),
        }


if __name__ == "__main__":
    random.seed(0)
    routes = {"pillow": Pillow, "torchvision": Tensors}
    run({f"{name}@{key}": w for key, route in routes.items() for name, w in Workloads(route()).all().items()})
