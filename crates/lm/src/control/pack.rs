//! Which samples share a row.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use super::ControlError;

/// Puts samples of these lengths into rows of `t` positions: each, the longest first, into the fullest row with room
/// (best fit decreasing). Returns positions of samples by row.
pub(super) fn plan_rows(lengths: &[usize], t: usize) -> Result<Vec<Vec<usize>>, ControlError> {
    if let Some((index, &len)) = lengths.iter().enumerate().find(|&(_, &len)| len > t) {
        return Err(ControlError::Oversized { index, len, limit: t });
    }
    let mut order: Vec<usize> = (0..lengths.len()).collect();
    order.sort_by_key(|&i| Reverse(lengths[i]));
    let mut rows: Vec<Vec<usize>> = Vec::new();
    // (room left, row)
    let mut open: BTreeSet<(usize, usize)> = BTreeSet::new();
    for i in order {
        let (room, row) = open.range((lengths[i], 0)..).next().copied().unwrap_or((t, rows.len()));
        open.remove(&(room, row));
        if row == rows.len() {
            rows.push(Vec::new());
        }
        rows[row].push(i);
        open.insert((room - lengths[i], row));
    }
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_sample_is_in_one_row_that_holds_it(lengths in prop::collection::vec(1_usize..50, 0..200)) {
            let rows = plan_rows(&lengths, 64).unwrap();
            let mut seen: Vec<usize> = rows.concat();
            seen.sort_unstable();
            prop_assert_eq!(seen, (0..lengths.len()).collect::<Vec<_>>());
            let used = |row: &Vec<usize>| row.iter().map(|&i| lengths[i]).sum::<usize>();
            prop_assert!(rows.iter().all(|row| used(row) <= 64));
            // No two rows could have been one.
            prop_assert!(rows.iter().enumerate().all(|(i, a)| rows[..i].iter().all(|b| used(a) + used(b) > 64)));
        }
    }
}
