package harness

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// NodeIP is the address of the machine in the network of the pods.
const NodeIP = "10.77.0.1"

// ErrNoPods means that this machine or user cannot make network namespaces.
var ErrNoPods = errors.New("network namespaces need root, ip, unshare and nsenter")

// Pods is a small cluster on this machine: each pod has a network, a host name
// and an /etc/hosts of its own, so that all can use the same ports, as in
// Kubernetes. A bridge in a separate namespace joins the pods. The processes
// that hold the namespaces end with this one, and the namespaces with them.
type Pods struct {
	dir     string
	domain  string
	names   []string
	node    *Process
	pods    map[string]*pod
	addr    map[string]string // by pod and by host name
	forward []net.Listener
	closed  chan struct{}
	running sync.WaitGroup
}

// pod is a sandbox; its pause process keeps the namespaces while the program in
// it starts and stops.
type pod struct {
	pause *Process
	ip    string
}

// NewPods makes sandboxes with the given host names. Each resolves all others
// as NAME and NAME.DOMAIN. The error is ErrNoPods where namespaces cannot be made.
func NewPods(dir, domain string, names ...string) (*Pods, error) {
	for _, tool := range []string{"ip", "unshare", "nsenter"} {
		if _, err := exec.LookPath(tool); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrNoPods, err)
		}
	}
	if out, err := exec.Command("unshare", "--net", "--uts", "--mount", "true").CombinedOutput(); err != nil {
		return nil, fmt.Errorf("%w: %s", ErrNoPods, out)
	}
	p := &Pods{dir: dir, domain: domain, names: names, closed: make(chan struct{}), pods: map[string]*pod{}, addr: map[string]string{}}
	if err := p.build(); err != nil {
		return nil, errors.Join(err, p.Close())
	}
	return p, nil
}

func (p *Pods) build() (err error) {
	for i, name := range p.names {
		p.addr[name] = fmt.Sprintf("10.77.0.%d", 10+i)
	}
	if err := p.writeHosts(); err != nil {
		return err
	}
	// A DNS server of the test may listen there; ListenPacket makes its socket.
	resolver := []byte("nameserver " + NodeIP + "\noptions ndots:1 timeout:1 attempts:1\n")
	if err := os.WriteFile(filepath.Join(p.dir, "resolv.conf"), resolver, 0o644); err != nil {
		return fmt.Errorf("write the resolver of the pods: %w", err)
	}
	p.node, err = p.sandbox("node", "ip link add br0 type bridge && ip addr add "+NodeIP+"/24 dev br0 && ip link set br0 up && ip link set lo up")
	if err != nil {
		return err
	}
	for i, name := range p.names {
		if err := p.add(name, i); err != nil {
			return err
		}
	}
	return nil
}

// writeHosts writes the addresses of all pods into the hosts file of each.
func (p *Pods) writeHosts() error {
	hosts := "127.0.0.1 localhost\n"
	for _, name := range p.names {
		hosts += fmt.Sprintf("%s %s.%s %s\n", p.addr[name], name, p.domain, name)
	}
	// The file is mounted, so it is written in place.
	if err := os.WriteFile(filepath.Join(p.dir, "hosts"), []byte(hosts), 0o644); err != nil {
		return fmt.Errorf("write the host names of the pods: %w", err)
	}
	return nil
}

// sandbox starts a process in new namespaces that runs setup and then waits.
func (p *Pods) sandbox(name, setup string) (*Process, error) {
	up := filepath.Join(p.dir, name+".up")
	proc, err := Start(p.dir, "sandbox-"+name, "unshare", "--net", "--uts", "--mount", "--propagation", "private",
		"sh", "-c", setup+" && touch "+up+" && exec sleep 86400")
	if err != nil {
		return nil, err
	}
	for range 500 {
		if _, err := os.Stat(up); err == nil {
			return proc, nil
		}
		if !proc.Running() {
			return nil, fmt.Errorf("make the sandbox %s: %s", name, proc.Tail(5))
		}
		time.Sleep(20 * time.Millisecond)
	}
	proc.Kill()
	return nil, fmt.Errorf("the sandbox %s is not up after 10s: %s", name, proc.Tail(5))
}

func (p *Pods) add(name string, i int) error {
	pause, err := p.sandbox(name, "hostname "+name+" && mount --bind "+filepath.Join(p.dir, "hosts")+" /etc/hosts && mount --bind "+filepath.Join(p.dir, "resolv.conf")+" /etc/resolv.conf && ip link set lo up")
	if err != nil {
		return err
	}
	p.pods[name] = &pod{pause: pause, ip: p.addr[name]}
	pid := strconv.Itoa(pause.Pid())
	veth := fmt.Sprintf("veth%d", i)
	return runSteps(name, []step{
		{p.node, "ip link add " + veth + " type veth peer name eth0 netns " + pid},
		{p.node, "ip link set " + veth + " master br0 up"},
		{pause, "ip addr add " + p.addr[name] + "/24 dev eth0"},
		{pause, "ip link set eth0 up"},
		{pause, "ip route add default via " + NodeIP},
	})
}

// Move gives a pod another address, as after a restart on another node.
func (p *Pods) Move(name, ip string) error {
	p.addr[name], p.pods[name].ip = ip, ip
	pause := p.pods[name].pause
	err := runSteps(name, []step{
		{pause, "ip addr flush dev eth0"},
		{pause, "ip addr add " + ip + "/24 dev eth0"},
		{pause, "ip route add default via " + NodeIP},
	})
	return errors.Join(err, p.writeHosts())
}

// step is a command in a sandbox.
type step struct {
	in   *Process
	args string
}

func runSteps(pod string, steps []step) error {
	for _, s := range steps {
		if out, err := exec.Command("nsenter", enter(s.in, strings.Fields(s.args)...)...).CombinedOutput(); err != nil {
			return fmt.Errorf("network of the pod %s: %s: %w: %s", pod, s.args, err, out)
		}
	}
	return nil
}

// enter are the arguments of nsenter that run a command in a sandbox. nsenter
// becomes that command, so its process id is the command's.
func enter(sandbox *Process, args ...string) []string {
	return append([]string{"--target", strconv.Itoa(sandbox.Pid()), "--net", "--uts", "--mount", "--"}, args...)
}

// IP returns the address of a pod.
func (p *Pods) IP(name string) string { return p.addr[name] }

// Start runs a program in a pod.
func (p *Pods) Start(name, bin string, args ...string) (*Process, error) {
	return p.StartEnv(name, nil, bin, args...)
}

// StartEnv is Start with additional environment variables.
func (p *Pods) StartEnv(name string, env []string, bin string, args ...string) (*Process, error) {
	return StartEnv(p.dir, env, name, "nsenter", enter(p.pods[name].pause, append([]string{bin}, args...)...)...)
}

// Forward opens a port on loopback of the machine that leads to host:port in the
// network of the pods, and returns its address.
func (p *Pods) Forward(address string) (string, error) {
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", fmt.Errorf("forward to %s: %w", address, err)
	}
	p.forward = append(p.forward, lis)
	p.running.Go(func() {
		for {
			in, err := lis.Accept()
			if err != nil {
				return
			}
			p.running.Go(func() { p.pipe(in, address) })
		}
	})
	return lis.Addr().String(), nil
}

func (p *Pods) pipe(in net.Conn, address string) {
	defer in.Close()
	out, err := p.Dial(context.Background(), "tcp", address)
	if err != nil {
		return
	}
	defer out.Close()
	done := make(chan struct{}, 3)
	for _, c := range [][2]net.Conn{{in, out}, {out, in}} {
		go func() {
			_, _ = io.Copy(c[0], c[1])
			done <- struct{}{}
		}()
	}
	select {
	case <-done:
	case <-p.closed:
		done <- struct{}{}
	}
	in.Close()
	out.Close()
	<-done
}

// Dial connects from the network of the pods.
func (p *Pods) Dial(ctx context.Context, network, address string) (conn net.Conn, err error) {
	inside := p.inside(func() error {
		d := net.Dialer{Timeout: 2 * time.Second}
		conn, err = d.DialContext(ctx, network, address)
		return err
	})
	return conn, inside
}

// Listen opens a port on NodeIP that the pods reach.
func (p *Pods) Listen(port string) (lis net.Listener, err error) {
	inside := p.inside(func() error {
		lis, err = net.Listen("tcp", net.JoinHostPort(NodeIP, port))
		return err
	})
	return lis, inside
}

// ListenPacket opens a UDP port on NodeIP.
func (p *Pods) ListenPacket(port string) (conn net.PacketConn, err error) {
	inside := p.inside(func() error {
		conn, err = net.ListenPacket("udp", net.JoinHostPort(NodeIP, port))
		return err
	})
	return conn, inside
}

// inside runs f in the network of the pods: a socket belongs to the namespace in which
// its thread was when it was made.
func (p *Pods) inside(f func() error) error {
	got := make(chan error)
	go func() {
		// The thread stays locked: it ends with the goroutine.
		runtime.LockOSThread()
		ns, err := os.Open(fmt.Sprintf("/proc/%d/ns/net", p.node.Pid()))
		if err != nil {
			got <- err
			return
		}
		defer ns.Close()
		if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
			got <- err
			return
		}
		got <- f()
	}()
	return <-got
}

// Cut loses all packets to and from a pod, until Join.
func (p *Pods) Cut(name string) error {
	return runSteps(name, []step{{p.node, "ip link set " + p.veth(name) + " down"}})
}

// Join ends Cut.
func (p *Pods) Join(name string) error {
	return runSteps(name, []step{{p.node, "ip link set " + p.veth(name) + " up"}})
}

// Lose loses the packets from one pod to another one, until Find. They go to a hardware
// address that no pod has.
func (p *Pods) Lose(from, to string) error {
	return runSteps(from, []step{{p.pods[from].pause, "ip neigh replace " + p.addr[to] + " lladdr 02:00:00:00:00:01 dev eth0 nud permanent"}})
}

// Find ends Lose.
func (p *Pods) Find(from, to string) error {
	return runSteps(from, []step{{p.pods[from].pause, "ip neigh del " + p.addr[to] + " dev eth0"}})
}

func (p *Pods) veth(name string) string { return fmt.Sprintf("veth%d", slices.Index(p.names, name)) }

// Close ends the sandboxes and everything that runs in them.
func (p *Pods) Close() error {
	close(p.closed)
	for _, lis := range p.forward {
		lis.Close()
	}
	for _, x := range p.pods {
		x.pause.Kill()
	}
	if p.node != nil {
		p.node.Kill()
	}
	p.running.Wait()
	return nil
}
