//! What keeps a gateway from starting is one sentence that says what to type. One test: the limits are the process's.

mod support;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use support::small;
use tidegate_gateway::{EchoConfig, Handle, Inherited, StartError, run_echo};

fn refusal(config: EchoConfig) -> StartError {
    let handle = Handle::new().expect("descriptors");
    let error = run_echo(config, Inherited::default(), &handle).expect_err("it must not start");
    let sentence = error.to_string();
    assert!(!sentence.contains('\n'), "{sentence}");
    error
}

#[test]
fn each_missing_thing_is_named_with_what_to_type() {
    let memlock = getrlimit(Resource::Memlock);
    let low = Rlimit {
        current: Some(64 << 10),
        maximum: memlock.maximum,
    };
    setrlimit(Resource::Memlock, low).expect("lowering is allowed");
    let error = refusal(small());
    assert!(
        matches!(error, StartError::MemoryLock { limit_kib: 64 }),
        "{error}"
    );
    assert!(
        error.to_string().contains("`ulimit -l unlimited`"),
        "{error}"
    );
    setrlimit(Resource::Memlock, memlock).expect("back to what it was");

    let mut config = small();
    config.listen = "192.0.2.1:80".parse().expect("an address");
    let error = refusal(config);
    assert!(matches!(error, StartError::Bind { .. }), "{error}");
    assert!(error.to_string().contains("192.0.2.1:80"), "{error}");

    let mut config = small();
    config.base.trusted_proxies = vec!["10.0.0.0/40".to_owned()];
    let error = refusal(config).to_string();
    assert!(
        error.starts_with("trusted_proxies = 10.0.0.0/40: "),
        "{error}"
    );

    let mut config = small();
    config.max_message_bytes = (16 << 20) + 1;
    let error = refusal(config).to_string();
    assert!(
        error.starts_with("max_message_bytes = 16777217: "),
        "{error}"
    );

    let few = Rlimit {
        current: Some(150),
        maximum: Some(150),
    };
    setrlimit(Resource::Nofile, few).expect("lowering is allowed");
    let error = refusal(small());
    assert!(matches!(error, StartError::Descriptors { .. }), "{error}");
    assert!(error.to_string().contains("`ulimit -n"), "{error}");
}
