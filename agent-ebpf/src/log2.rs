//! Logarithms for histograms, without branches: the processor that programs are written for has no instruction for
//! them, and values of all sizes make branches dear.

/// A de Bruijn sequence: multiplied by any number whose lowest bits are set and no others, it has six topmost bits that
/// it has with none of the others.
const DE_BRUIJN: u64 = 0x03f7_9d71_b4cb_0a89;

/// The highest set bit, by the topmost six bits of the product with [`DE_BRUIJN`].
static HIGHEST_BIT: [u8; 64] = highest_bits();

const fn highest_bits() -> [u8; 64] {
    let mut bits = [0; 64];
    let mut bit = 0;
    while bit < 64 {
        let product = (u64::MAX >> (63 - bit)).wrapping_mul(DE_BRUIJN);
        bits[(product >> 58) as usize] = bit;
        bit += 1;
    }
    bits
}

/// To the base 2, rounded down; 0 of 0.
#[must_use]
#[inline(always)]
pub fn log2(value: u64) -> u64 {
    let mut filled = value;
    for bits in [1, 2, 4, 8, 16, 32] {
        filled |= filled >> bits;
    }
    u64::from(HIGHEST_BIT[(filled.wrapping_mul(DE_BRUIJN) >> 58) as usize])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_every_power_and_its_neighbours() {
        assert_eq!(log2(0), 0);
        assert_eq!(log2(1), 0);
        for bit in 1..64_u32 {
            let power = 1_u64 << bit;
            assert_eq!(log2(power), u64::from(power.ilog2()), "{power}");
            assert_eq!(log2(power - 1), u64::from((power - 1).ilog2()), "{power} - 1");
            assert_eq!(log2(power + 1), u64::from((power + 1).ilog2()), "{power} + 1");
        }
        assert_eq!(log2(u64::MAX), 63);
    }
}
