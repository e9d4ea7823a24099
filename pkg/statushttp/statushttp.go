package statushttp

import (
	"encoding/json"
	"net/http"
	"os"
	"runtime"
	"runtime/debug"
	"time"

	"github.com/prometheus/common/version"
	v1 "github.com/prometheus/prometheus/web/api/v1"

	"github.com/hindsight-io/hindsight/pkg/errorid"
)

// Handler answers below /api/v1/status/. It may be used concurrently.
type Handler struct {
	// Flags are the values of the flags by name, without secrets.
	Flags map[string]string
	// Started is when the process began.
	Started time.Time
}

// Register adds the paths to the mux.
func (h Handler) Register(mux *http.ServeMux) {
	for path, data := range map[string]func() any{
		"flags":       func() any { return h.Flags },
		"buildinfo":   func() any { return Build() },
		"runtimeinfo": func() any { return Runtime(h.Started) },
	} {
		mux.HandleFunc("GET /api/v1/status/"+path, func(w http.ResponseWriter, _ *http.Request) { answer(w, data()) })
	}
}

func answer(w http.ResponseWriter, data any) {
	b, err := json.Marshal(map[string]any{"status": "success", "data": data})
	if err != nil {
		errorid.Answer(w, http.StatusInternalServerError, "", "print the status: "+err.Error())
		return
	}
	w.Header().Set("Content-Type", "application/json")
	// An error means that the client has gone.
	_, _ = w.Write(b)
}

// Build returns the version of the program.
func Build() v1.PrometheusVersion {
	return v1.PrometheusVersion{
		Version: version.Version, Revision: version.GetRevision(), Branch: version.Branch,
		BuildUser: version.BuildUser, BuildDate: version.BuildDate, GoVersion: version.GoVersion,
	}
}

// Runtime returns the state of the process that began at the given time.
func Runtime(started time.Time) v1.RuntimeInfo {
	cwd, err := os.Getwd()
	if err != nil {
		cwd = "unknown"
	}
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	return v1.RuntimeInfo{
		StartTime: started, CWD: cwd, Hostname: host, ServerTime: time.Now(),
		GoroutineCount: runtime.NumGoroutine(), GOMAXPROCS: runtime.GOMAXPROCS(0),
		GOMEMLIMIT: debug.SetMemoryLimit(-1), GOGC: os.Getenv("GOGC"), GODEBUG: os.Getenv("GODEBUG"),
		ReloadConfigSuccess: true,
	}
}
