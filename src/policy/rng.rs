/// Where a policy takes its chance from; it has none of its own.
///
/// A test hands in a fixed sequence, the layers a fast generator:
///
/// ```
/// use tower_relay::policy::Rng;
///
/// struct Always(u64);
/// impl Rng for Always {
///     fn next_u64(&mut self) -> u64 {
///         self.0
///     }
/// }
/// assert_eq!(Always(u64::MAX).up_to(10), 10);
/// assert_eq!(Always(0).up_to(10), 0);
/// ```
pub trait Rng {
    /// The next 64 random bits.
    fn next_u64(&mut self) -> u64;

    /// A number from 0 to `most`, both included, evenly spread to within one part in 2⁶⁴.
    fn up_to(&mut self, most: u64) -> u64 {
        let spread = u128::from(self.next_u64()) * (u128::from(most) + 1);
        (spread >> 64) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Fixed(u64);

    impl Rng for Fixed {
        fn next_u64(&mut self) -> u64 {
            self.0
        }
    }

    #[test]
    fn the_bits_are_spread_evenly_over_the_range() {
        for (bits, most, drawn) in [
            (0, 9, 0),
            (u64::MAX / 10, 9, 0),
            (u64::MAX / 10 + 1, 9, 1),
            (u64::MAX / 2, 9, 4),
            (u64::MAX / 2 + 1, 9, 5),
            (u64::MAX, 9, 9),
            (u64::MAX, 0, 0),
            (u64::MAX / 2, u64::MAX, u64::MAX / 2),
            (u64::MAX, u64::MAX, u64::MAX),
        ] {
            assert_eq!(Fixed(bits).up_to(most), drawn, "{bits} up to {most}");
        }
    }
}
