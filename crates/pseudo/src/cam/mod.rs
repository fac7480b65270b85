//! Class activation maps, their measures and their pictures.
