package discovery

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/hindsight-io/hindsight/pkg/receive/members"
)

// The parts of the API's objects that are used.
type (
	objectMeta struct {
		Name            string `json:"name"`
		ResourceVersion string `json:"resourceVersion"`
		Continue        string `json:"continue"`
	}
	endpointSlice struct {
		Metadata  objectMeta `json:"metadata"`
		Endpoints []struct {
			Addresses []string `json:"addresses"`
			Hostname  string   `json:"hostname"`
			TargetRef *struct {
				Kind string `json:"kind"`
				Name string `json:"name"`
			} `json:"targetRef"`
		} `json:"endpoints"`
		Ports []struct {
			Name string `json:"name"`
			Port int    `json:"port"`
		} `json:"ports"`
	}
	sliceList struct {
		Metadata objectMeta      `json:"metadata"`
		Items    []endpointSlice `json:"items"`
	}
	watchEvent struct {
		Type   string          `json:"type"`
		Object json.RawMessage `json:"object"`
	}
	statefulSet struct {
		Spec struct {
			Replicas *int `json:"replicas"`
		} `json:"spec"`
	}
)

// setsInterval is how often the StatefulSets are read, beside each change of the
// endpoints: a pod that is deleted changes them.
const setsInterval = 30 * time.Second

// endpoints finds the pods behind a service by its EndpointSlices, ready or not. Watch
// keeps them; Fetch reads the sizes of their StatefulSets, too.
type endpoints struct {
	api                *kubeAPI
	logger             *slog.Logger
	domain             string // of the names of the pods: that of the service
	service, namespace string
	port               string // a number or a name

	mu     sync.Mutex
	slices map[string]endpointSlice // by name; nil before the first list
	err    error                    // of the last list or watch
	stale  bool                     // the sets are to be read again

	sets   map[string]int // used by Fetch alone
	setsAt time.Time
	denied bool // reported
}

func newEndpoints(address string, cfg Config) (*endpoints, error) {
	domain, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	domain = strings.ToLower(strings.TrimSuffix(domain, "."))
	parts := strings.SplitN(domain, ".", 3)
	if len(parts) < 3 || parts[0] == "" || parts[1] == "" || !strings.HasPrefix(parts[2]+".", "svc.") {
		return nil, fmt.Errorf("member %q needs the form %s", "k8s+"+address, form("k8s"))
	}
	api, err := newKubeAPI(cfg.Credentials)
	if err != nil {
		return nil, err
	}
	return &endpoints{
		api: api, logger: cfg.Logger, domain: domain, service: parts[0], namespace: parts[1], port: port, sets: map[string]int{},
	}, nil
}

func (e *endpoints) slicesPath() string {
	return "/apis/discovery.k8s.io/v1/namespaces/" + url.PathEscape(e.namespace) + "/endpointslices"
}

func (e *endpoints) selector() url.Values {
	return url.Values{"labelSelector": {"kubernetes.io/service-name=" + e.service}}
}

// Watch lists the slices and follows their changes. After a failure it lists again,
// with a growing pause.
func (e *endpoints) Watch(ctx context.Context, changed func()) error {
	defer e.api.client.CloseIdleConnections()
	for pause := watchPause; ctx.Err() == nil; {
		version, err := e.list(ctx)
		if err == nil {
			changed()
			pause = watchPause
			err = e.follow(ctx, version, changed)
		}
		if ctx.Err() != nil {
			break
		}
		if err != nil {
			e.mu.Lock()
			e.err = err
			e.mu.Unlock()
			changed()
		}
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
		if err != nil {
			pause = min(2*pause, maxWatchPause)
		}
	}
	return nil
}

// Bounds of the pause between two watches, for a server that ends each at once, too.
const (
	watchPause    = time.Second
	maxWatchPause = 30 * time.Second
)

// list reads all slices of the service and replaces the ones that are known.
func (e *endpoints) list(ctx context.Context) (version string, err error) {
	all := map[string]endpointSlice{}
	q := e.selector()
	q.Set("limit", strconv.Itoa(pageSize))
	for range maxPages {
		var page sliceList
		if err := e.api.get(ctx, e.slicesPath(), q, &page); err != nil {
			return "", fmt.Errorf("list the EndpointSlices of the service %s in %s: %w", e.service, e.namespace, err)
		}
		for _, s := range page.Items {
			all[s.Metadata.Name] = s
		}
		version = page.Metadata.ResourceVersion
		if page.Metadata.Continue == "" {
			e.mu.Lock()
			defer e.mu.Unlock()
			e.slices, e.err, e.stale = all, nil, true
			return version, nil
		}
		q.Set("continue", page.Metadata.Continue)
	}
	return "", fmt.Errorf("list the EndpointSlices of the service %s in %s: more than %d pages", e.service, e.namespace, maxPages)
}

// follow applies the events after a version until the watch ends; nil means that the
// server has ended it in order.
func (e *endpoints) follow(ctx context.Context, version string, changed func()) error {
	// A server that is gone without closing the connection ends the watch as well.
	ctx, cancel := context.WithTimeout(ctx, watchTime+callTimeout)
	defer cancel()
	q := e.selector()
	q.Set("watch", "1")
	q.Set("resourceVersion", version)
	q.Set("timeoutSeconds", strconv.Itoa(int(watchTime.Seconds())))
	body, err := e.api.open(ctx, e.slicesPath(), q)
	if err != nil {
		return fmt.Errorf("watch the EndpointSlices of the service %s in %s: %w", e.service, e.namespace, err)
	}
	defer body.Close()
	limited := &io.LimitedReader{R: body}
	for dec := json.NewDecoder(limited); ; {
		limited.N = maxAnswer // for each event
		var event watchEvent
		switch err := dec.Decode(&event); {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return fmt.Errorf("watch the EndpointSlices of the service %s in %s: %w", e.service, e.namespace, err)
		}
		if err := e.apply(event); err != nil {
			return err
		}
		changed()
	}
}

// apply changes the known slices by an event.
func (e *endpoints) apply(event watchEvent) error {
	if event.Type == "ERROR" {
		return fmt.Errorf("watch the EndpointSlices of the service %s in %s: the server answers %.200s", e.service, e.namespace, event.Object)
	}
	var s endpointSlice
	if err := json.Unmarshal(event.Object, &s); err != nil {
		return fmt.Errorf("read an EndpointSlice of the service %s: %w", e.service, err)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.stale = true
	switch event.Type {
	case "ADDED", "MODIFIED":
		e.slices[s.Metadata.Name] = s
	case "DELETED":
		delete(e.slices, s.Metadata.Name)
	}
	return nil
}

// Fetch returns the endpoints that Watch knows, ready or not, with the sizes of their
// StatefulSets. Before the first list, and when asked for a fresh answer, it lists.
func (e *endpoints) Fetch(ctx context.Context, fresh bool) (Result, error) {
	e.mu.Lock()
	known, failed := e.slices != nil, e.err
	e.mu.Unlock()
	if fresh || !known && failed == nil {
		if _, err := e.list(ctx); err != nil {
			return Result{}, err
		}
		failed = nil
	}
	if failed != nil {
		return Result{}, failed
	}
	e.mu.Lock()
	var out Result
	for _, name := range slices.Sorted(maps.Keys(e.slices)) {
		out.Found = append(out.Found, e.found(e.slices[name])...)
	}
	stale := e.stale || fresh
	e.stale = false
	e.mu.Unlock()
	if stale || time.Since(e.setsAt) >= setsInterval {
		if err := e.readSets(ctx, out.Found); err != nil {
			e.mu.Lock()
			e.stale = true
			e.mu.Unlock()
			return Result{}, err
		}
	}
	out.Pods = maps.Clone(e.sets)
	return out, nil
}

// found returns the receivers of a slice.
func (e *endpoints) found(s endpointSlice) (out []members.Found) {
	port, err := strconv.Atoi(e.port)
	if err != nil {
		at := slices.IndexFunc(s.Ports, func(p struct {
			Name string `json:"name"`
			Port int    `json:"port"`
		}) bool {
			return p.Name == e.port
		})
		if at < 0 {
			return nil
		}
		port = s.Ports[at].Port
	}
	for _, x := range s.Endpoints {
		f := members.Found{}
		if x.TargetRef != nil && x.TargetRef.Kind == "Pod" {
			f.Pod = x.TargetRef.Name
		}
		switch {
		case x.Hostname != "":
			f.Address = join(x.Hostname+"."+e.domain, port)
		case len(x.Addresses) > 0:
			f.Address = join(x.Addresses[0], port)
		default:
			continue
		}
		out = append(out, f)
	}
	return out
}

// readSets reads the sizes of the StatefulSets whose pods were ever seen. Without the
// right to read them they are not known, which is reported once: members that are
// scaled down leave after the timeout then.
func (e *endpoints) readSets(ctx context.Context, found []members.Found) error {
	names := map[string]bool{}
	for name := range e.sets {
		names[name] = true
	}
	for _, f := range found {
		if name, _ := members.StatefulSet(f.Pod); name != "" {
			names[name] = true
		}
	}
	for _, name := range slices.Sorted(maps.Keys(names)) {
		var set statefulSet
		path := "/apis/apps/v1/namespaces/" + url.PathEscape(e.namespace) + "/statefulsets/" + url.PathEscape(name)
		err := e.api.get(ctx, path, nil, &set)
		var status *statusError
		switch {
		case errors.As(err, &status) && (status.code == http.StatusForbidden || status.code == http.StatusNotFound):
			// A set that is deleted is no scale-down to nothing: its pods may be adopted.
			delete(e.sets, name)
			if status.code == http.StatusForbidden && !e.denied {
				e.denied = true
				e.logger.Warn("size of the StatefulSet not known; members that are scaled down leave the hashring after the timeout", "err", err)
			}
		case err != nil:
			return fmt.Errorf("read the StatefulSet %s in %s: %w", name, e.namespace, err)
		case set.Spec.Replicas == nil:
			e.sets[name] = 1
		default:
			e.sets[name] = *set.Spec.Replicas
		}
	}
	e.setsAt = time.Now()
	return nil
}
