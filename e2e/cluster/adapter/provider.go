package main

import (
	"context"
	"math"
	"slices"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/klog/v2"
	"k8s.io/metrics/pkg/apis/custom_metrics"

	"sigs.k8s.io/custom-metrics-apiserver/pkg/provider"
)

// quantityMax is the largest value that fits into a quantity of thousandths.
const quantityMax = math.MaxInt64 / 1000

var podResource = schema.GroupResource{Resource: "pods"}

// podMetrics serves a fixed list of metrics, for pods only: what an HPA's metric of type Pods asks for.
type podMetrics struct {
	pods       kubernetes.Interface
	prometheus *prometheus
	metrics    []string
}

var _ provider.CustomMetricsProvider = (*podMetrics)(nil)

// GetMetricByName serves one pod's value.
func (p *podMetrics) GetMetricByName(
	ctx context.Context, name types.NamespacedName, info provider.CustomMetricInfo, metricSelector labels.Selector,
) (*custom_metrics.MetricValue, error) {
	values, err := p.values(ctx, name.Namespace, []string{name.Name}, info, metricSelector)
	if err != nil {
		return nil, err
	}
	if len(values) == 0 {
		return nil, provider.NewMetricNotFoundForError(info.GroupResource, info.Metric, name.Name)
	}
	return &values[0], nil
}

// GetMetricBySelector serves the values of the pods that the selector takes. A pod without a value is left out; the
// HPA then assumes the careful value for it.
func (p *podMetrics) GetMetricBySelector(
	ctx context.Context, namespace string, selector labels.Selector, info provider.CustomMetricInfo,
	metricSelector labels.Selector,
) (*custom_metrics.MetricValueList, error) {
	if err := p.check(info, metricSelector); err != nil {
		return nil, err
	}
	list, err := p.pods.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{LabelSelector: selector.String()})
	if err != nil {
		return nil, err
	}
	names := make([]string, len(list.Items))
	for i := range list.Items {
		names[i] = list.Items[i].Name
	}
	values, err := p.values(ctx, namespace, names, info, metricSelector)
	if err != nil {
		return nil, err
	}
	return &custom_metrics.MetricValueList{Items: values}, nil
}

// ListAllMetrics says what discovery shows.
func (p *podMetrics) ListAllMetrics() []provider.CustomMetricInfo {
	all := make([]provider.CustomMetricInfo, len(p.metrics))
	for i, metric := range p.metrics {
		all[i] = provider.CustomMetricInfo{GroupResource: podResource, Namespaced: true, Metric: metric}
	}
	return all
}

// check refuses what this adapter does not serve, so that no part of a question is silently ignored.
func (p *podMetrics) check(info provider.CustomMetricInfo, metricSelector labels.Selector) error {
	if info.GroupResource != podResource || !info.Namespaced || !slices.Contains(p.metrics, info.Metric) {
		return provider.NewMetricNotFoundError(info.GroupResource, info.Metric)
	}
	if metricSelector != nil && !metricSelector.Empty() {
		return apierrors.NewBadRequest("the metrics of this adapter have no labels to select by")
	}
	return nil
}

func (p *podMetrics) values(
	ctx context.Context, namespace string, pods []string, info provider.CustomMetricInfo, metricSelector labels.Selector,
) ([]custom_metrics.MetricValue, error) {
	if err := p.check(info, metricSelector); err != nil {
		return nil, err
	}
	samples, err := p.prometheus.podSamples(ctx, info.Metric, namespace, pods)
	if err != nil {
		klog.ErrorS(err, "Prometheus does not answer", "metric", info.Metric, "namespace", namespace)
		return nil, apierrors.NewInternalError(err)
	}
	values := make([]custom_metrics.MetricValue, 0, len(samples))
	for _, s := range samples {
		values = append(values, metricValue(namespace, info.Metric, s))
	}
	return values, nil
}

func metricValue(namespace, metric string, s sample) custom_metrics.MetricValue {
	value := math.Max(-quantityMax, math.Min(quantityMax, s.value))
	return custom_metrics.MetricValue{
		DescribedObject: custom_metrics.ObjectReference{
			APIVersion: "v1", Kind: "Pod", Namespace: namespace, Name: s.pod,
		},
		Metric:    custom_metrics.MetricIdentifier{Name: metric},
		Timestamp: metav1.NewTime(s.at),
		Value:     *resource.NewMilliQuantity(int64(math.Round(value*1000)), resource.DecimalSI),
	}
}
