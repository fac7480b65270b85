use std::path::Path;

use super::{DataError, Dataset, Fold, idx};

/// The names of Fashion-MNIST's classes, in the order of its labels.
pub const FASHION_MNIST_CLASSES: [&str; 10] =
    ["T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"];

const TRAIN_IMAGES: &[u8] = include_bytes!("../../data/fashion-mnist/train-images-idx3-ubyte.gz");
const TRAIN_LABELS: &[u8] = include_bytes!("../../data/fashion-mnist/train-labels-idx1-ubyte.gz");
const TEST_IMAGES: &[u8] = include_bytes!("../../data/fashion-mnist/t10k-images-idx3-ubyte.gz");
const TEST_LABELS: &[u8] = include_bytes!("../../data/fashion-mnist/t10k-labels-idx1-ubyte.gz");

/// The part of Fashion-MNIST that comes with the crate: of each of the ten classes 200 training and 100 test images, grey,
/// 28 x 28 (`data/README.md` has the source, the licence and the command that made it).
///
/// # Errors
/// None in a sound build.
pub fn fashion_mnist() -> Result<Dataset, DataError> {
    let files = [(Fold::Train, "train", TRAIN_IMAGES, TRAIN_LABELS), (Fold::Test, "t10k", TEST_IMAGES, TEST_LABELS)];
    idx::from_bytes(Path::new("fashion-mnist"), FASHION_MNIST_CLASSES.map(String::from).to_vec(), &files)
}

#[cfg(test)]
mod tests {
    use sha2::{Digest, Sha256};

    use super::*;
    use crate::image::Decode;

    fn readme() -> String {
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/data/README.md")).unwrap()
    }

    #[test]
    fn every_class_has_its_images() {
        let data = fashion_mnist().unwrap();
        assert_eq!(data.counts(&data.fold(Fold::Train)), [200; 10]);
        assert_eq!(data.counts(&data.fold(Fold::Test)), [100; 10]);
        let image = data.image(17, &Decode::default(), None).unwrap();
        assert_eq!((image.width(), image.height()), (28, 28));
        assert!(image.pixels().iter().any(|&v| v > 100));
    }

    #[test]
    fn no_image_comes_twice() {
        let mut hashes: Vec<_> = fashion_mnist().unwrap().hashes().into_iter().map(Result::unwrap).collect();
        hashes.sort();
        hashes.dedup();
        assert_eq!(hashes.len(), 3000);
    }

    #[test]
    fn readme_has_the_hash_of_every_file() {
        for file in [TRAIN_IMAGES, TRAIN_LABELS, TEST_IMAGES, TEST_LABELS] {
            let hash: String = Sha256::digest(file).iter().map(|byte| format!("{byte:02x}")).collect();
            assert!(readme().contains(&hash), "{hash}");
        }
        assert!(TRAIN_IMAGES.len() + TEST_IMAGES.len() < 1_500_000);
    }

    #[test]
    fn fingerprint_is_the_same_for_ever() {
        let fingerprint = fashion_mnist().unwrap().fingerprint();
        assert!(readme().contains(&fingerprint), "{fingerprint}");
    }
}
