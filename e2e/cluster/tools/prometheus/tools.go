//go:build tools

// Package tools pins Prometheus and promtool (v0.316.0 is the module version of release 3.16.0).
package tools

import (
	_ "github.com/prometheus/prometheus/cmd/prometheus"
	_ "github.com/prometheus/prometheus/cmd/promtool"
)
