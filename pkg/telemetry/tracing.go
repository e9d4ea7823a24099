package telemetry

import (
	"bytes"
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/common/version"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/hindsight-io/hindsight/pkg/flags"
)

type tracingFile struct {
	Type   string        `yaml:"type"`
	Config tracingConfig `yaml:"config"`
}

type tracingConfig struct {
	ClientType         string            `yaml:"client_type"`
	ServiceName        string            `yaml:"service_name"`
	ResourceAttributes map[string]string `yaml:"resource_attributes"`
	Endpoint           string            `yaml:"endpoint"`
	URLPath            string            `yaml:"url_path"`
	Insecure           bool              `yaml:"insecure"`
	Compression        string            `yaml:"compression"`
	Timeout            model.Duration    `yaml:"timeout"`
	Headers            map[string]string `yaml:"headers"`
	SamplerType        string            `yaml:"sampler_type"`
	SamplerParam       string            `yaml:"sampler_param"`
}

// Tracer makes the trace provider that the configuration describes; nil without one. stop sends the buffered spans.
// Errors of the configuration are marked flags.Invalid.
func Tracer(ctx context.Context, c Config) (tp trace.TracerProvider, stop func(context.Context) error, err error) {
	none := func(context.Context) error { return nil }
	content, err := c.Tracing.Content()
	if err != nil {
		return nil, nil, err
	}
	if len(bytes.TrimSpace(content)) == 0 {
		return nil, none, nil
	}
	cfg, err := parseTracing(content)
	if err != nil {
		return nil, nil, flags.Invalid(fmt.Errorf("tracing configuration %s: %w", c.Tracing.Source(), err))
	}
	sampler, err := cfg.sampler()
	if err != nil {
		return nil, nil, flags.Invalid(fmt.Errorf("tracing configuration %s: %w", c.Tracing.Source(), err))
	}
	exp, err := cfg.exporter(ctx)
	if err != nil {
		return nil, nil, fmt.Errorf("start the trace exporter: %w", err)
	}
	p := sdktrace.NewTracerProvider(
		sdktrace.WithBatcher(exp),
		sdktrace.WithSampler(forced{sampler}),
		sdktrace.WithResource(resource.NewSchemaless(cfg.attributes()...)),
	)
	return p, p.Shutdown, nil
}

// CheckTracing checks the content of a tracing configuration without starting an
// exporter. Empty content disables tracing.
func CheckTracing(content []byte) error {
	if len(bytes.TrimSpace(content)) == 0 {
		return nil
	}
	cfg, err := parseTracing(content)
	if err != nil {
		return err
	}
	_, err = cfg.sampler()
	return err
}

func parseTracing(content []byte) (tracingConfig, error) {
	var f tracingFile
	if err := flags.DecodeYAML(content, &f); err != nil {
		return tracingConfig{}, err
	}
	if !strings.EqualFold(f.Type, "OTLP") {
		return tracingConfig{}, fmt.Errorf("type %q is not supported; use OTLP, which every tracing system accepts", f.Type)
	}
	if f.Config.ClientType != "grpc" && f.Config.ClientType != "http" {
		return tracingConfig{}, fmt.Errorf("client_type is %q; it must be grpc or http", f.Config.ClientType)
	}
	return f.Config, nil
}

func (c tracingConfig) attributes() []attribute.KeyValue {
	name := c.ServiceName
	if name == "" {
		name = "hindsight"
	}
	out := []attribute.KeyValue{
		attribute.String("service.name", name),
		attribute.String("service.version", version.Version),
	}
	for k, v := range c.ResourceAttributes {
		out = append(out, attribute.String(k, v))
	}
	return out
}

func (c tracingConfig) sampler() (sdktrace.Sampler, error) {
	ratio := 1.0
	if c.SamplerParam != "" {
		v, err := strconv.ParseFloat(c.SamplerParam, 64)
		if err != nil {
			return nil, fmt.Errorf("sampler_param %q is not a number", c.SamplerParam)
		}
		ratio = v
	}
	switch strings.ToLower(c.SamplerType) {
	case "alwayssample":
		return sdktrace.AlwaysSample(), nil
	case "neversample":
		return sdktrace.NeverSample(), nil
	case "traceidratiobased":
		return sdktrace.TraceIDRatioBased(ratio), nil
	case "parentbasedalwayssample":
		return sdktrace.ParentBased(sdktrace.AlwaysSample()), nil
	case "parentbasedneversample":
		return sdktrace.ParentBased(sdktrace.NeverSample()), nil
	case "", "parentbasedtraceidratiobased":
		return sdktrace.ParentBased(sdktrace.TraceIDRatioBased(ratio)), nil
	}
	return nil, fmt.Errorf("sampler_type %q is not known", c.SamplerType)
}

func (c tracingConfig) duration() time.Duration { return time.Duration(c.Timeout) }

// exporter returns the OTLP exporter of the configuration, over gRPC or HTTP.
func (c tracingConfig) exporter(ctx context.Context) (sdktrace.SpanExporter, error) {
	if c.ClientType == "http" {
		opts := []otlptracehttp.Option{otlptracehttp.WithEndpoint(c.Endpoint), otlptracehttp.WithHeaders(c.Headers)}
		if c.Insecure {
			opts = append(opts, otlptracehttp.WithInsecure())
		}
		if c.URLPath != "" {
			opts = append(opts, otlptracehttp.WithURLPath(c.URLPath))
		}
		if c.Compression == "gzip" {
			opts = append(opts, otlptracehttp.WithCompression(otlptracehttp.GzipCompression))
		}
		if c.Timeout > 0 {
			opts = append(opts, otlptracehttp.WithTimeout(c.duration()))
		}
		return otlptracehttp.New(ctx, opts...)
	}
	opts := []otlptracegrpc.Option{otlptracegrpc.WithEndpoint(c.Endpoint), otlptracegrpc.WithHeaders(c.Headers)}
	if c.Insecure {
		opts = append(opts, otlptracegrpc.WithTLSCredentials(insecure.NewCredentials()))
	}
	if c.Compression != "" {
		opts = append(opts, otlptracegrpc.WithCompressor(c.Compression))
	}
	if c.Timeout > 0 {
		opts = append(opts, otlptracegrpc.WithTimeout(c.duration()))
	}
	return otlptracegrpc.New(ctx, opts...)
}
