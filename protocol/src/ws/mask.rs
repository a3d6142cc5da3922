//! Masking (RFC 6455 5.3): XOR with a four-byte key, in place, 32 bytes at a step so that the compiler uses
//! vector registers.

use super::header::MASK_BYTES;

const STEP_BYTES: usize = 32;

/// Masks or unmasks `payload`, whose first byte meets `mask[0]`. Returns the mask that the byte after it meets.
#[inline]
pub fn unmask(payload: &mut [u8], mask: [u8; MASK_BYTES]) -> [u8; MASK_BYTES] {
    let word = u32::from_ne_bytes(mask);
    let wide = u64::from(word) << 32 | u64::from(word);
    let mut steps = payload.chunks_exact_mut(STEP_BYTES);
    for step in &mut steps {
        let (words, _) = step.as_chunks_mut::<8>();
        for bytes in words {
            *bytes = (u64::from_ne_bytes(*bytes) ^ wide).to_ne_bytes();
        }
    }
    let (words, tail) = steps.into_remainder().as_chunks_mut::<MASK_BYTES>();
    for bytes in words {
        *bytes = (u32::from_ne_bytes(*bytes) ^ word).to_ne_bytes();
    }
    for (byte, key) in tail.iter_mut().zip(mask) {
        *byte ^= key;
    }
    let mut next = mask;
    next.rotate_left(tail.len());
    next
}

/// The same, byte by byte: what [`unmask`] is compared with.
#[cfg(any(test, feature = "fuzzing"))]
pub fn unmask_naive(payload: &mut [u8], mask: [u8; MASK_BYTES]) -> [u8; MASK_BYTES] {
    for (i, byte) in payload.iter_mut().enumerate() {
        *byte ^= mask[i % MASK_BYTES];
    }
    core::array::from_fn(|i| mask[(payload.len() + i) % MASK_BYTES])
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn rfc_6455_5_3_every_length_and_alignment_agrees_with_the_naive_one() {
        let mask = [0x37, 0xfa, 0x21, 0x3d];
        let bytes: Vec<u8> = (0..=255).chain(0..=255).collect();
        for start in 0..16 {
            for len in 0..200 {
                let (mut wide, mut naive) = (bytes.clone(), bytes.clone());
                let next = unmask(&mut wide[start..start + len], mask);
                assert_eq!(next, unmask_naive(&mut naive[start..start + len], mask));
                assert_eq!(wide, naive, "{start} {len}");
            }
        }
    }

    #[test]
    fn rfc_6455_5_7_the_masked_hello_of_the_examples_is_unmasked() {
        let mut payload = [0x7f, 0x9f, 0x4d, 0x51, 0x58];
        unmask(&mut payload, [0x37, 0xfa, 0x21, 0x3d]);
        assert_eq!(&payload, b"Hello");
    }

    proptest! {
        #[test]
        fn pieces_with_the_mask_handed_on_equal_the_whole(
            bytes: Vec<u8>, mask: [u8; 4], cuts: Vec<prop::sample::Index>
        ) {
            let mut whole = bytes.clone();
            unmask(&mut whole, mask);
            let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
            cuts.extend([0, bytes.len()]);
            cuts.sort_unstable();
            let (mut pieces, mut mask) = (bytes, mask);
            for pair in cuts.windows(2) {
                mask = unmask(&mut pieces[pair[0]..pair[1]], mask);
            }
            prop_assert_eq!(pieces, whole);
        }
    }
}
