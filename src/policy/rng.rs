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
