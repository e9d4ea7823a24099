package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/rulefmt"
	"github.com/prometheus/prometheus/promql/parser"
	"go.yaml.in/yaml/v3"

	"github.com/hindsight-io/hindsight/pkg/bucket/provider"
	"github.com/hindsight-io/hindsight/pkg/compact"
	"github.com/hindsight-io/hindsight/pkg/flags"
	"github.com/hindsight-io/hindsight/pkg/httpclient"
	"github.com/hindsight-io/hindsight/pkg/query"
	"github.com/hindsight-io/hindsight/pkg/query/endpoint"
	"github.com/hindsight-io/hindsight/pkg/receive/hashring"
	"github.com/hindsight-io/hindsight/pkg/receive/tenantlimits"
	"github.com/hindsight-io/hindsight/pkg/requestlog"
	"github.com/hindsight-io/hindsight/pkg/store"
	"github.com/hindsight-io/hindsight/pkg/telemetry"
	"github.com/hindsight-io/hindsight/pkg/webconfig"
)

// configKind is one kind of configuration file.
type configKind struct {
	name string
	// flags that take such a file, for the help.
	flags string
	// expand says that the roles replace $(NAME) in the file by environment variables.
	expand bool
	// list says that the document is a list; keys are those of its first element then,
	// and of the document otherwise. One of them identifies the kind.
	list bool
	keys []string
	// types are values of the key type that identify the kind, in upper case. With them
	// keys are not looked at.
	types []string
	// check parses the file as the roles do. path is for files that name others.
	check func(ctx context.Context, path string, content []byte) error
}

// contentOnly makes a check of a parser of the content.
func contentOnly(parse func(content []byte) error) func(context.Context, string, []byte) error {
	return func(_ context.Context, _ string, content []byte) error { return parse(content) }
}

// configKinds returns all kinds, in the order in which a file is compared with them. The
// ones that only a name chooses have neither keys nor types.
func configKinds() []configKind {
	return append(bucketKinds(), []configKind{
		{
			name: "hashring", flags: "--receive.hashrings-file", list: true,
			keys:  []string{"endpoints", "hashring", "tenants", "tenant_matcher_type", "algorithm"},
			check: contentOnly(func(b []byte) error { _, err := hashring.Parse(b); return err }),
		},
		{
			name: "limits", flags: "--receive.limits-config-file", expand: true, keys: []string{"write"},
			check: contentOnly(func(b []byte) error { _, err := tenantlimits.Parse(b); return err }),
		},
		{
			name: "query-limits", flags: "--query.limits-config-file", expand: true, keys: []string{"query"},
			check: contentOnly(query.CheckLimits),
		},
		{
			name: "endpoints", flags: "--endpoint.sd-config-file", keys: []string{"endpoints", "default_client_config"},
			check: func(_ context.Context, path string, b []byte) error {
				_, err := endpoint.ParseFile(path, b)
				return err
			},
		},
		{
			name: "targets", flags: "--store.sd-files", list: true, keys: []string{"targets"},
			check: contentOnly(func(b []byte) error { _, err := endpoint.ParseTargets(b); return err }),
		},
		{
			name: "relabel", flags: "--receive.relabel-config-file", expand: true, list: true,
			keys:  []string{"action", "source_labels", "target_label", "regex", "replacement", "modulus", "separator"},
			check: contentOnly(func(b []byte) error { _, err := flags.ParseRelabelRules(b); return err }),
		},
		{
			name: "retention", flags: "--retention.config-file", expand: true, keys: []string{"rules", "tenant_label"},
			check: contentOnly(func(b []byte) error { _, err := compact.ParseRetentionRules(b); return err }),
		},
		{
			name: "deletions", flags: "--rewrite.to-delete-config-file", expand: true, list: true, keys: []string{"matchers", "intervals"},
			check: contentOnly(func(b []byte) error { _, err := parseDeletions(b); return err }),
		},
		{
			name: "selector", flags: "--selector.relabel-config-file", expand: true,
			check: contentOnly(func(b []byte) error { _, err := flags.ParseSelectorRules(b, "blocks or stores"); return err }),
		},
		{
			name: "web", flags: "--http.config", keys: []string{"tls_server_config", "http_server_config", "basic_auth_users", "rate_limit"},
			check: func(_ context.Context, path string, _ []byte) error { return webconfig.Check(path) },
		},
		{
			name: "http-client", flags: "--prometheus.http-client-file",
			keys:  []string{"basic_auth", "bearer_token", "bearer_token_file", "proxy_url", "tls_config", "transport_config"},
			check: contentOnly(func(b []byte) error { _, err := httpclient.Parse(b); return err }),
		},
		{name: "rules", flags: "rule files of Prometheus", keys: []string{"groups"}, check: contentOnly(checkRules)},
		{
			name: "request-logging", flags: "--request.logging-config-file", expand: true, keys: []string{"options", "http", "grpc"},
			check: contentOnly(func(b []byte) error { _, err := requestlog.Parse(b); return err }),
		},
	}...)
}

// bucketKinds returns the kinds that the key type identifies.
func bucketKinds() []configKind {
	return []configKind{
		{
			name: "objstore", flags: "--objstore.config-file", expand: true,
			types: []string{"S3", "GCS", "AZURE", "SWIFT", "COS", "ALIYUNOSS", "BOS", "OCI", "OBS", "FILESYSTEM"},
			check: func(ctx context.Context, _ string, b []byte) error { return provider.CheckConfig(ctx, b) },
		},
		{
			name: "tracing", flags: "--tracing.config-file", expand: true,
			types: []string{"OTLP", "JAEGER", "STACKDRIVER", "GOOGLE_CLOUD", "ELASTIC_APM", "LIGHTSTEP"},
			check: contentOnly(telemetry.CheckTracing),
		},
		{
			name: "index-cache", flags: "--index-cache.config-file", expand: true, types: []string{"IN-MEMORY", "MEMCACHED", "REDIS"},
			check: contentOnly(func(b []byte) error { _, err := store.ParseIndexCache(b); return err }),
		},
	}
}

// kindNamed returns the kind of the name, or nil.
func kindNamed(kinds []configKind, name string) *configKind {
	i := slices.IndexFunc(kinds, func(k configKind) bool { return k.name == name })
	if i < 0 {
		return nil
	}
	return &kinds[i]
}

// recognise returns the kind of a file by its keys; nil when it is like none. JSON is
// YAML, too.
func recognise(kinds []configKind, content []byte) (*configKind, error) {
	var doc yaml.Node
	if err := yaml.Unmarshal(content, &doc); err != nil {
		return nil, flags.YAMLError(err)
	}
	if len(doc.Content) == 0 {
		return nil, errors.New("the file is empty")
	}
	root := doc.Content[0]
	list := root.Kind == yaml.SequenceNode
	if list {
		if len(root.Content) == 0 {
			return nil, nil
		}
		root = root.Content[0]
	}
	if root.Kind != yaml.MappingNode {
		return nil, nil
	}
	keys := map[string]string{}
	for i := 0; i+1 < len(root.Content); i += 2 {
		keys[root.Content[i].Value] = root.Content[i+1].Value
	}
	for i := range kinds {
		k := &kinds[i]
		if k.list != list {
			continue
		}
		for _, key := range k.keys {
			if _, ok := keys[key]; ok {
				return k, nil
			}
		}
		if slices.Contains(k.types, strings.ToUpper(keys["type"])) {
			return k, nil
		}
	}
	return nil, nil
}

// checkRules checks a rule file with the parser of Prometheus.
func checkRules(content []byte) error {
	_, errs := rulefmt.Parse(content, false, model.UTF8Validation, parser.NewParser(parser.Options{}), slog.New(slog.DiscardHandler))
	return errors.Join(errs...)
}

// kindHelp lists the kinds with their flags.
func kindHelp() string {
	var parts []string
	for _, k := range configKinds() {
		parts = append(parts, fmt.Sprintf("%s (%s)", k.name, k.flags))
	}
	return strings.Join(parts, ", ")
}
