//! Where images and labels come from: folders, lists, published layouts, splits.
