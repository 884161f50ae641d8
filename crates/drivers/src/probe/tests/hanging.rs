//! Who is asked and never answers: a no, exactly when its time is over. Real sockets on a paused clock:
//! nothing happens there but the end of the time.

use std::sync::mpsc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use upbeat_model::project::{FileCheck, Grpc, Http, Tls, Udp};

use super::*;

/// Asks, and lets the time go by to its last millisecond, and then that one.
async fn times_out(prober: &Prober, question: &Question) {
    for timeout in [Millis(1_500), Millis::seconds(30)] {
        let mut asking = Box::pin(prober.verdict(question, timeout));
        let mut context = Context::from_waker(Waker::noop());
        assert!(asking.as_mut().poll(&mut context).is_pending(), "{question}");
        tokio::time::advance(timeout.as_duration() - Duration::from_millis(1)).await;
        assert!(asking.as_mut().poll(&mut context).is_pending(), "{question} was answered too early");
        tokio::time::advance(Duration::from_millis(1)).await;
        let Poll::Ready(verdict) = asking.as_mut().poll(&mut context) else {
            panic!("{question} is not answered in time")
        };
        assert_eq!(verdict, no(&format!("timed out after {timeout}")), "{question}");
    }
}

#[tokio::test(start_paused = true)]
async fn whoever_never_answers_has_said_no_when_the_time_is_over() {
    // The system accepts connections and takes datagrams for them; nobody reads either.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap().to_string();
    let datagrams = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let deaf = datagrams.local_addr().unwrap().to_string();
    let prober = prober();
    let tls = Some(Tls { insecure: true, ..Tls::default() });
    for question in [
        Question::Http(Http::get(format!("http://{address}/"))),
        Question::Http(Http::get(format!("https://{address}/"))),
        Question::Grpc(Grpc { address: address.clone(), service: String::new(), tls: None }),
        Question::Grpc(Grpc { address, service: String::new(), tls }),
        Question::Udp(Udp { address: deaf, send: "ping".into(), expect: None }),
    ] {
        times_out(&prober, &question).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_port_and_a_socket_with_full_queues_have_said_no_when_the_time_is_over() {
    let prober = prober();
    let (port, _listener, _held) = sockets::full_port().await;
    times_out(&prober, &Question::Tcp(port)).await;
    let dir = tempfile::tempdir().unwrap();
    let (question, _listener) = sockets::full_socket(&dir);
    times_out(&prober, &question).await;
}

/// As on a disk of the network that is gone: the look holds its thread, and nobody else.
#[tokio::test(start_paused = true)]
async fn a_file_that_cannot_be_looked_at_has_said_no_when_the_time_is_over() {
    let prober = prober();
    let (come_back, gone) = mpsc::channel::<()>();
    let hang = prober.inner.files.at("/gone".into(), move || {
        let _ = gone.recv();
        Err("it came back".into())
    });
    let mut hang = Box::pin(hang);
    assert!(hang.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    times_out(&prober, &Question::File(FileCheck { path: "/gone".into(), max_age: None })).await;
    drop(come_back);
    assert_eq!(hang.await, Some(Err("it came back".into())));
}
