// The same echo server with Go's net package: a goroutine for each connection.
//
//	go build -o peer_go main.go
package main

import (
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"unsafe"
)

func main() {
	listen := flag.String("listen", "127.0.0.1:0", "address to listen on; port 0: the system chooses")
	threads := flag.Int("threads", 1, "threads that run goroutines at the same time")
	cpus := flag.String("cpus", "", "CPUs that they may run on, such as 0,1")
	untilStdinEnds := flag.Bool("until-stdin-ends", false, "end when standard input ends")
	buffer := flag.Int("buffer", 16*1024, "bytes of each connection's buffer")
	flag.Parse()

	runtime.GOMAXPROCS(*threads)
	var limit syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit) == nil {
		limit.Cur = limit.Max
		_ = syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit)
	}
	if *cpus != "" {
		orFail(pin(*cpus))
	}
	listener, err := net.Listen("tcp", *listen)
	orFail(err)
	fmt.Printf("go listens on %s\n", listener.Addr())
	if *untilStdinEnds {
		go serve(listener, *buffer)
		_, _ = io.Copy(io.Discard, os.Stdin)
		return
	}
	serve(listener, *buffer)
}

func serve(listener net.Listener, buffer int) {
	for {
		conn, err := listener.Accept()
		orFail(err)
		go echo(conn, buffer)
	}
}

func echo(conn net.Conn, buffer int) {
	defer conn.Close()
	bytes := make([]byte, buffer)
	for {
		n, err := conn.Read(bytes)
		if err != nil {
			return
		}
		if _, err := conn.Write(bytes[:n]); err != nil {
			return
		}
	}
}

// pin pins every thread that there is; those to come inherit it.
func pin(list string) error {
	var set [16]uint64
	for _, text := range strings.Split(list, ",") {
		cpu, err := strconv.Atoi(text)
		if err != nil || cpu < 0 || cpu >= len(set)*64 {
			return fmt.Errorf("-cpus: '%s' is no CPU", text)
		}
		set[cpu/64] |= 1 << (cpu % 64)
	}
	tasks, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return err
	}
	for _, task := range tasks {
		id, _ := strconv.Atoi(task.Name())
		_, _, errno := syscall.RawSyscall(syscall.SYS_SCHED_SETAFFINITY,
			uintptr(id), unsafe.Sizeof(set), uintptr(unsafe.Pointer(&set)))
		if errno != 0 {
			return errno
		}
	}
	return nil
}

func orFail(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "go:", err)
		os.Exit(1)
	}
}
