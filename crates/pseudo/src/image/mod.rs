//! From files to tensors: decoding, resizing, weak and strong views.
