//! Sorts packed words by their leading 40 bits, in passes that look at ten bits each.
use super::SLOT_BITS;

const DIGIT_BITS: u32 = 10;
const BUCKETS: usize = 1 << DIGIT_BITS;
const PASSES: usize = (super::PLACE_BITS / DIGIT_BITS) as usize;
/// Fewer words than this are sorted faster by comparing.
const SMALL: usize = 1 << 10;

/// Sorts by place; words of one place stay in their order.
pub(super) fn by_place(words: &mut Vec<u64>) {
    if words.len() < SMALL {
        words.sort_by_key(|word| word >> SLOT_BITS);
        return;
    }
    let digit = |word: u64, pass: usize| (word >> (SLOT_BITS + pass as u32 * DIGIT_BITS)) as usize & (BUCKETS - 1);
    let mut counts = [[0u32; BUCKETS]; PASSES];
    for word in &*words {
        for (pass, counts) in counts.iter_mut().enumerate() {
            counts[digit(*word, pass)] += 1;
        }
    }
    let mut sorted = vec![0; words.len()];
    for (pass, counts) in counts.iter_mut().enumerate() {
        // Where all have the same digit there is nothing to do: short arcs have no leading bits.
        if counts.iter().any(|count| *count as usize == words.len()) {
            continue;
        }
        let mut start = 0;
        for count in counts.iter_mut() {
            (*count, start) = (start, start + *count);
        }
        for word in &*words {
            let next = &mut counts[digit(*word, pass)];
            sorted[*next as usize] = *word;
            *next += 1;
        }
        std::mem::swap(words, &mut sorted);
    }
}
