"""What all tests need of the process that runs them."""

import signal

# What a shell starts in the background ignores Ctrl-C, and so would the programs that tests start to interrupt them.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
