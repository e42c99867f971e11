// Command adapter serves custom.metrics.k8s.io from Prometheus: the newest value of a few gauges for each pod. It
// stands in for prometheus-adapter in the tests of the HorizontalPodAutoscaler, and does nothing else.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"k8s.io/client-go/kubernetes"
	"k8s.io/component-base/logs"
	"k8s.io/component-base/metrics/legacyregistry"

	"sigs.k8s.io/custom-metrics-apiserver/pkg/apiserver/metrics"
	basecmd "sigs.k8s.io/custom-metrics-apiserver/pkg/cmd"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "adapter:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, arguments []string) error {
	base := &basecmd.AdapterBase{Name: "custom-metrics-adapter"}
	flags := base.Flags()
	address := flags.String("prometheus-url", "http://prometheus.monitoring:9090",
		"where Prometheus answers, without /api/v1; an address serves where there is no DNS")
	timeout := flags.Duration("prometheus-timeout", 5*time.Second, "longest wait for Prometheus")
	served := flags.StringSlice("metric", []string{"http_requests_per_second", "http_requests_in_flight"},
		"gauges that are served for pods, with commas between")
	logs.AddFlags(flags)
	if err := flags.Parse(arguments); err != nil {
		return err
	}
	logs.InitLogs()
	defer logs.FlushLogs()

	prometheus, err := newPrometheus(*address, *timeout)
	if err != nil {
		return fmt.Errorf("--prometheus-url: %w", err)
	}
	config, err := base.ClientConfig()
	if err != nil {
		return err
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	base.WithCustomMetrics(&podMetrics{pods: client, prometheus: prometheus, metrics: *served})
	if err := metrics.RegisterMetrics(legacyregistry.Register); err != nil {
		return err
	}
	return base.Run(ctx)
}
