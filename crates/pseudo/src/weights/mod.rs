//! Published weights in formats that candle does not read.
