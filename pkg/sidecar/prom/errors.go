package prom

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
)

// Error is an answer of the server that is not a success.
type Error struct {
	// Op names the request, with its path.
	Op string
	// Status is the HTTP status code.
	Status int
	// Msg is the server's own text, without line breaks at its ends.
	Msg string
}

func (e *Error) Error() string {
	if e.Msg == "" {
		return fmt.Sprintf("%s: Prometheus answered %d %s", e.Op, e.Status, http.StatusText(e.Status))
	}
	return fmt.Sprintf("%s: Prometheus answered %d: %s", e.Op, e.Status, e.Msg)
}

const maxErrorBody = 4 << 10

// errorFrom reads the body of an answer that is not 2xx.
func errorFrom(op string, resp *http.Response) error {
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxErrorBody))
	if err != nil {
		body = nil
	}
	var api struct {
		Error string `json:"error"`
	}
	msg := strings.TrimSpace(string(body))
	if json.Unmarshal(body, &api) == nil && api.Error != "" {
		msg = api.Error
	}
	return &Error{Op: op, Status: resp.StatusCode, Msg: msg}
}
