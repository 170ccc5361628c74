//! Which bucket a value belongs to: exactly, by table, without logarithms.
//!
//! Bucket `i` of scale `s` holds `(2^(i * 2^-s), 2^((i + 1) * 2^-s)]`: the upper bound belongs to it. The
//! table is made for [`MAX_SCALE`]; the buckets of smaller scales are unions of its buckets, so their index is
//! a shift away. Finer scales than 8 would tell values apart by less than 0.3 %, need larger tables, and the
//! usual backends fold them to 8 on arrival.

/// Finest scale.
pub const MAX_SCALE: i32 = 8;

/// Buckets of [`MAX_SCALE`] between two powers of two.
const PER_OCTAVE: usize = 1 << MAX_SCALE;

/// Linear slots of the significand; each holds at most one bucket bound, as the narrowest bucket is
/// `2^(1/256) - 1`, more than 1/512, wide.
const SLOTS: usize = 2 * PER_OCTAVE;

const SIGNIFICAND_BITS: u32 = 52;
const SIGNIFICAND_MASK: u64 = (1 << SIGNIFICAND_BITS) - 1;
const SLOT_SHIFT: u32 = SIGNIFICAND_BITS - MAX_SCALE.unsigned_abs() - 1;
const EXPONENT_BIAS: i32 = 1023;

/// `2^(1/2)`, `2^(1/4)` ... `2^(1/256)`, rounded down to 127 bits behind the point.
const ROOTS: [u128; MAX_SCALE as usize] = [
    0xb504_f333_f9de_6484_597d_89b3_754a_be9f,
    0x9837_f051_8db8_a96f_46ad_2318_2e42_f6f6,
    0x8b95_c1e3_ea8b_d6e6_fbe4_6287_58a5_3c90,
    0x85aa_c367_cc48_7b14_c5c9_5b8c_2154_c1b2,
    0x82cd_8698_ac2b_a1d7_3e2a_475b_4652_0bff,
    0x8164_d1f3_bc03_0773_7be5_6527_bd14_def4,
    0x80b1_ed4f_d999_ab6c_2533_5719_b6e6_fd20,
    0x8058_d7d2_d5e5_f6b0_94d5_89f6_08ee_4aa2,
];

/// `2^(1/512)` ... `2^(1/1048576)`, likewise.
const FINER_ROOTS: [u128; 12] = [
    0x802c_6436_d0e0_4f50_ff8c_e94a_6797_b3ce,
    0x8016_302f_1746_7628_3690_dfe4_4d11_d008,
    0x800b_179c_8202_8fd0_945e_54e2_ae18_f2f0,
    0x8005_8baf_7fee_3b5d_1c71_8b38_e549_cb93,
    0x8002_c5d0_0fdc_fcb6_b656_6a58_c048_be1f,
    0x8001_62e6_1bed_4a48_e84c_2e1a_4634_73d9,
    0x8000_b172_92f7_02a3_aa22_beac_ca94_9013,
    0x8000_58b9_2abb_ae02_030c_5fa5_256f_41fe,
    0x8000_2c5c_8dad_e4d7_1776_c0f4_dbea_67d6,
    0x8000_162e_44ea_f636_526b_e456_600b_dbe4,
    0x8000_0b17_21fa_7c18_8307_016c_1cd4_e8b6,
    0x8000_058b_90de_7e4c_ecfc_4875_0348_8bb1,
];

/// `BOUNDS[k]` is the significand of the smallest number that is not below `2^(k/256)`. Rounding to the nearest
/// instead would misplace values next to a bound.
const BOUNDS: [u64; PER_OCTAVE + 1] = bounds();

/// Bucket, within its octave, of the first number of each slot.
const FIRST: [u16; SLOTS] = first_buckets();

/// Index at [`MAX_SCALE`] of a positive normal number; smaller ones count as the smallest of those.
pub fn index(value: f64) -> i32 {
    let bits = value.max(f64::MIN_POSITIVE).to_bits();
    // The sign is clear, so eleven bits are left.
    let exponent = (bits >> SIGNIFICAND_BITS) as i32 - EXPONENT_BIAS;
    let significand = bits & SIGNIFICAND_MASK;
    let octave = exponent << MAX_SCALE;
    if significand == 0 {
        return octave - 1;
    }
    let first = usize::from(FIRST[(significand >> SLOT_SHIFT) as usize]);
    let bucket = first + usize::from(significand >= BOUNDS[first + 1]);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_possible_wrap,
        reason = "below 256"
    )]
    let bucket = bucket as i32;
    octave + bucket
}

/// Index at any scale from -10 to 20 of a positive normal number. Slow above [`MAX_SCALE`], where no series is.
pub fn index_at(value: f64, scale: i32) -> i32 {
    if scale <= MAX_SCALE {
        return index(value) >> scale.abs_diff(MAX_SCALE);
    }
    let bits = value.max(f64::MIN_POSITIVE).to_bits();
    let octave = ((bits >> SIGNIFICAND_BITS) as i32 - EXPONENT_BIAS) << scale;
    let significand = bits & SIGNIFICAND_MASK;
    if significand == 0 {
        return octave - 1;
    }
    // Within the bucket of the finest table, halves tell which half the number is in.
    let mut bucket = index(value) & ((1 << MAX_SCALE) - 1);
    let mut bound = power(bucket.unsigned_abs() as usize);
    for root in &FINER_ROOTS[..scale.abs_diff(MAX_SCALE) as usize] {
        let middle = multiply(bound, *root);
        let is_above = significand >= ceil_significand(middle);
        bucket = bucket << 1 | i32::from(is_above);
        if is_above {
            bound = middle;
        }
    }
    octave + bucket
}

/// Lower bound of a bucket.
pub fn lower_bound(index: i32, scale: i32) -> f64 {
    (f64::from(index) * (-f64::from(scale)).exp2()).exp2()
}

const fn bounds() -> [u64; PER_OCTAVE + 1] {
    let mut bounds = [0; PER_OCTAVE + 1];
    let mut k = 1;
    while k < PER_OCTAVE {
        bounds[k] = ceil_significand(power(k));
        k += 1;
    }
    // No significand reaches it.
    bounds[PER_OCTAVE] = 1 << SIGNIFICAND_BITS;
    bounds
}

/// `2^(k/256)` with 127 bits behind the point, at most a few units too small.
const fn power(k: usize) -> u128 {
    let mut product = 1 << 127;
    let mut bit = 0;
    while bit < ROOTS.len() {
        if k & (PER_OCTAVE >> (bit + 1)) != 0 {
            product = multiply(product, ROOTS[bit]);
        }
        bit += 1;
    }
    product
}

/// Product of two numbers with 127 bits behind the point.
const fn multiply(a: u128, b: u128) -> u128 {
    const LOW: u128 = u64::MAX as u128;
    let (a_high, a_low) = (a >> 64, a & LOW);
    let (b_high, b_low) = (b >> 64, b & LOW);
    let middle = ((a_low * b_low) >> 64) + ((a_high * b_low) & LOW) + ((a_low * b_high) & LOW);
    let high =
        a_high * b_high + ((a_high * b_low) >> 64) + ((a_low * b_high) >> 64) + (middle >> 64);
    (high << 1) | ((middle >> 63) & 1)
}

/// The powers are irrational: there is always a rest to round up.
const fn ceil_significand(number: u128) -> u64 {
    ((number >> (127 - SIGNIFICAND_BITS)) as u64 & SIGNIFICAND_MASK) + 1
}

#[expect(clippy::cast_possible_truncation, reason = "buckets are below 256")]
const fn first_buckets() -> [u16; SLOTS] {
    let mut first = [0; SLOTS];
    let mut slot = 0;
    let mut bucket = 0;
    while slot < SLOTS {
        while BOUNDS[bucket + 1] <= (slot as u64) << SLOT_SHIFT {
            bucket += 1;
        }
        first[slot] = bucket as u16;
        slot += 1;
    }
    first
}

#[cfg(test)]
mod tests {
    use otel_arrow_dfe_expohisto::Scale;
    use proptest::prelude::*;

    use super::*;

    fn oracle(value: f64) -> i32 {
        Scale::new(MAX_SCALE).unwrap().map_to_index(value)
    }

    /// Bounds of a coarse scale are bounds of the finest table, so these are those of every scale up to it.
    fn around_bounds() -> impl Iterator<Item = f64> {
        [-1022, -300, -30, -10, -1, 0, 1, 9, 300]
            .into_iter()
            .flat_map(|exponent| {
                let octave = 2f64.powi(exponent);
                BOUNDS.iter().take(PER_OCTAVE).flat_map(move |bound| {
                    let at = f64::from_bits(octave.to_bits() + bound);
                    [at.next_down(), at, at.next_up()]
                })
            })
    }

    #[test]
    fn agrees_with_the_oracle_at_every_scale_that_it_has() {
        for scale in -10..=MAX_SCALE {
            let oracle = Scale::new(scale).unwrap();
            for value in around_bounds().filter(|value| value.is_normal()) {
                assert_eq!(
                    index_at(value, scale),
                    oracle.map_to_index(value),
                    "{value:e} at {scale}"
                );
            }
        }
    }

    #[test]
    fn finer_roots_square_to_their_predecessors() {
        let roots: Vec<u128> = ROOTS.iter().chain(&FINER_ROOTS).copied().collect();
        for pair in roots.windows(2) {
            assert!(multiply(pair[1], pair[1]).abs_diff(pair[0]) < 8);
        }
    }

    /// A bound of a scale, exactly: the smallest number that is not below it.
    fn bound_at(bucket: i32, scale: i32) -> f64 {
        let roots = ROOTS.iter().chain(&FINER_ROOTS);
        let mut product = 1u128 << 127;
        for (bit, root) in (1..=scale).zip(roots) {
            if bucket >> (scale - bit) & 1 == 1 {
                product = multiply(product, *root);
            }
        }
        f64::from_bits(1f64.to_bits() + ceil_significand(product))
    }

    proptest! {
        #[test]
        fn bounds_of_fine_scales_are_exact(scale in MAX_SCALE + 1..=20, random in any::<u32>()) {
            let bucket = (random % (1 << scale)).max(1).cast_signed();
            let bound = bound_at(bucket, scale);
            prop_assert_eq!(index_at(bound, scale), bucket);
            prop_assert_eq!(index_at(bound.next_up(), scale), bucket);
            prop_assert_eq!(index_at(bound.next_down(), scale), bucket - 1);
            prop_assert_eq!(index_at(bound / 1024.0, scale), bucket - (10 << scale));
        }

        /// Perfect subsetting: a bucket of a scale is two of the next.
        #[test]
        fn scales_nest(value in 1e-300f64..1e300, scale in -10..20i32) {
            prop_assert_eq!(index_at(value, scale), index_at(value, scale + 1) >> 1);
        }
    }

    #[test]
    fn roots_square_to_their_predecessors() {
        assert!(
            multiply(ROOTS[0], ROOTS[0]).abs_diff(0xffff_ffff_ffff_ffff_ffff_ffff_ffff_ffff) < 8
        );
        for pair in ROOTS.windows(2) {
            assert!(multiply(pair[1], pair[1]).abs_diff(pair[0]) < 8);
        }
    }

    #[test]
    fn agrees_with_the_oracle_around_every_bound() {
        for value in around_bounds().filter(|value| value.is_normal()) {
            assert_eq!(index(value), oracle(value), "{value:e}");
        }
    }

    #[test]
    fn powers_of_two_belong_to_the_bucket_below() {
        assert_eq!(index(1.0), -1);
        assert_eq!(index(2.0), 255);
        assert_eq!(index(0.5), -257);
        assert_eq!(index(1.0f64.next_up()), 0);
    }

    #[test]
    fn numbers_below_the_normal_ones_take_the_lowest_bucket() {
        assert_eq!(index(f64::from_bits(1)), index(f64::MIN_POSITIVE));
        assert_eq!(index(0.0), index(f64::MIN_POSITIVE));
    }

    proptest! {
        #[test]
        fn agrees_with_the_oracle(nanoseconds in 1u64..=u64::MAX / 2) {
            #[expect(clippy::cast_precision_loss, reason = "any number does")]
            let value = nanoseconds as f64 / 1e9;
            prop_assert_eq!(index(value), oracle(value));
        }

        #[test]
        fn bounds_hold(value in 1e-9f64..1e9) {
            let index = index(value);
            prop_assert!(lower_bound(index, MAX_SCALE) <= value * (1.0 + 1e-12));
            prop_assert!(value <= lower_bound(index + 1, MAX_SCALE) * (1.0 + 1e-12));
        }
    }
}
