# What the guest's shell reads first (ENV on the kernel's command line): the workloads of make bench-guest.
work
stty -echo
dd if=/dev/zero of=/tmp/zeros bs=1M count=64 2>/dev/null
work times 1000 busybox true
work times 1 sha256sum /tmp/zeros
work pipe 10000
poweroff -f
