//! Standard input and output, without a thread wherever the system can say when there is something to
//! read: pipes, and the Unix sockets that Node.js, and so most desktop clients, give their children.
//!
//! What is none of these (a terminal, a file, a system without `/proc`) is read and written by threads.

use tokio::io::{AsyncRead, AsyncWrite};

/// What the client writes.
pub type Input = Box<dyn AsyncRead + Send + Unpin>;
/// What the client reads.
pub type Output = Box<dyn AsyncWrite + Send + Unpin>;

/// Standard input. To be called within the runtime.
#[must_use]
pub fn input() -> Input {
    #[cfg(unix)]
    {
        if let Some(socket) = unix::socket(std::io::stdin()) {
            return Box::new(socket);
        }
        // Opened anew, so that what others share with us does not become non-blocking for them.
        if let Ok(pipe) = tokio::net::unix::pipe::OpenOptions::new().open_receiver("/proc/self/fd/0") {
            return Box::new(pipe);
        }
    }
    Box::new(tokio::io::stdin())
}

/// Standard output. To be called within the runtime.
#[must_use]
pub fn output() -> Output {
    #[cfg(unix)]
    {
        if let Some(socket) = unix::socket(std::io::stdout()) {
            return Box::new(socket);
        }
        if let Ok(pipe) = tokio::net::unix::pipe::OpenOptions::new().open_sender("/proc/self/fd/1") {
            return Box::new(pipe);
        }
    }
    Box::new(tokio::io::stdout())
}

#[cfg(unix)]
mod unix {
    use std::os::{fd::AsFd, unix::net::UnixStream};

    /// The stream, if it is a Unix socket. A socket cannot be opened anew: it becomes non-blocking for
    /// whoever shares this end of it, as Node.js makes its own. The client has the other end.
    pub(super) fn socket(stream: impl AsFd) -> Option<tokio::net::UnixStream> {
        let socket = UnixStream::from(stream.as_fd().try_clone_to_owned().ok()?);
        // Fails for anything else: that is how the standard library tells.
        socket.local_addr().ok()?;
        socket.set_nonblocking(true).ok()?;
        tokio::net::UnixStream::from_std(socket).ok()
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[tokio::test]
        async fn a_unix_socket_is_told_from_anything_else() {
            let (ours, _theirs) = UnixStream::pair().unwrap();
            assert!(socket(&ours).is_some());
            let (read, write) = std::io::pipe().unwrap();
            assert!(socket(&read).is_none() && socket(&write).is_none());
            assert!(socket(std::net::TcpListener::bind("127.0.0.1:0").unwrap()).is_none());
            assert!(socket(std::fs::File::open("/dev/null").unwrap()).is_none());
        }
    }
}
