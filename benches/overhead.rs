//! scratch
use tower::Layer;
use tower_relay::policy::*;
use tower_relay::rate_limit::RateLimitLayer;
use tower_relay_benches::*;

fn per(d: u32, f: impl FnMut()) -> f64 {
    let mut f = f;
    let start = std::time::Instant::now();
    let mut best = f64::MAX;
    for _ in 0..15 {
        let s = std::time::Instant::now();
        for _ in 0..d {
            f();
        }
        best = best.min(s.elapsed().as_nanos() as f64 / d as f64);
    }
    let _ = start;
    best
}

fn main() {
    if std::env::args().any(|a| a == "--cg") {
        let rt = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .unwrap();
        let _g = rt.enter();
        let quota = Quota::builder()
            .requests_per_second(1_000_000_000)
            .burst(Unit::REQUESTS, 1_000_000_000)
            .build()
            .unwrap();
        let mut limited = RateLimitLayer::new(quota).layer(Bare);
        for _ in 0..100_000 {
            call(&mut limited, request(false));
        }
        return;
    }
    let rt = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    let _g = rt.enter();
    let mut bare = Bare;
    println!("bare {}", per(1_000_00, || call(&mut bare, request(false))));
    println!(
        "clock {}",
        per(1_000_00, || {
            std::hint::black_box(tokio::time::Instant::now());
        })
    );
    let quota = Quota::builder()
        .requests_per_second(1_000_000_000)
        .burst(Unit::REQUESTS, 1_000_000_000)
        .build()
        .unwrap();
    let mut limited = RateLimitLayer::new(quota).layer(Bare);
    println!(
        "rate {}",
        per(1_000_00, || call(&mut limited, request(false)))
    );
    println!("rate_u64 {}", per(1_000_00, || call(&mut limited, 5u64)));
    println!(
        "rate_again {}",
        per(1_000_00, || call(&mut limited, request(false)))
    );
    println!("bare_u64 {}", per(1_000_00, || call(&mut bare, 5u64)));
    let a = std::sync::Arc::new(5);
    println!(
        "bare_arc {}",
        per(1_000_00, || drop(std::hint::black_box(a.clone())))
    );
    let h = limited.handle();
    println!("rate_enter {}", per(1_000_00, || h.bench_enter()));
    println!("rate_stats {}", per(1_000_00, || h.bench_lock()));
    println!("rate_clock {}", per(1_000_00, || h.bench_clock()));
    println!(
        "rate_callonly {}",
        per(1_000_00, || {
            drop(std::hint::black_box(tower::Service::call(
                &mut limited,
                5u64,
            )))
        })
    );
    println!(
        "bare_callonly {}",
        per(1_000_00, || {
            drop(std::hint::black_box(tower::Service::call(&mut bare, 5u64)))
        })
    );
    let m = std::sync::Mutex::new(5);
    println!(
        "lock {}",
        per(1_000_00, || {
            *m.lock().unwrap() += 1;
        })
    );
    let q = Quota::builder()
        .requests_per_second(1_000_000_000)
        .burst(Unit::REQUESTS, 1_000_000_000)
        .build()
        .unwrap();
    let mut b = TokenBucket::new(&q, Timestamp::ZERO);
    let mut t = 0;
    println!(
        "bucket {}",
        per(1_000_00, || {
            t += 100;
            let now = Timestamp::from_nanos(t);
            std::hint::black_box(b.ready_at(&Cost::REQUEST).unwrap());
            drop(b.take(&Cost::REQUEST, now));
        })
    );
    println!(
        "future {} bytes, request {}",
        std::mem::size_of::<
            tower_relay::rate_limit::ResponseFuture<Bare, Request, tower_relay::protocol::Plain>,
        >(),
        std::mem::size_of::<Request>()
    );
    println!("sleep {}", std::mem::size_of::<tokio::time::Sleep>());
}
