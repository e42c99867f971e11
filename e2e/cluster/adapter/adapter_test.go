package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/metrics/pkg/apis/custom_metrics"

	"sigs.k8s.io/custom-metrics-apiserver/pkg/provider"
)

var rps = provider.CustomMetricInfo{GroupResource: podResource, Namespaced: true, Metric: "http_requests_per_second"}

// fakePrometheus answers every query alike and remembers the last one.
type fakePrometheus struct {
	status int
	body   string
	query  string
}

func (f *fakePrometheus) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPost || r.URL.Path != "/prefix/api/v1/query" {
		http.Error(w, "not the query API", http.StatusNotFound)
		return
	}
	f.query = r.PostFormValue("query")
	w.WriteHeader(f.status)
	fmt.Fprint(w, f.body)
}

// newAdapter has a real client of each, on servers that answer what the test says. The API server has two pods under
// the label app=gateway and none else.
func newAdapter(t *testing.T, answers *fakePrometheus) *podMetrics {
	t.Helper()
	apiServer := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		list := corev1.PodList{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "PodList"}}
		if r.URL.Path == "/api/v1/namespaces/edge/pods" && r.URL.Query().Get("labelSelector") == "app=gateway" {
			for _, name := range []string{"gw-0", "gw-1"} {
				list.Items = append(list.Items, corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name}})
			}
		}
		w.Header().Set("Content-Type", "application/json")
		if err := json.NewEncoder(w).Encode(list); err != nil {
			t.Error(err)
		}
	}))
	t.Cleanup(apiServer.Close)
	server := httptest.NewServer(answers)
	t.Cleanup(server.Close)
	client, err := kubernetes.NewForConfig(&rest.Config{
		Host: apiServer.URL, ContentConfig: rest.ContentConfig{ContentType: "application/json"},
	})
	if err != nil {
		t.Fatal(err)
	}
	prometheus, err := newPrometheus(server.URL+"/prefix/", time.Second)
	if err != nil {
		t.Fatal(err)
	}
	return &podMetrics{pods: client, prometheus: prometheus, metrics: []string{rps.Metric}}
}

func vector(samples string) string {
	return `{"status":"success","data":{"resultType":"vector","result":[` + samples + `]}}`
}

func selector(t *testing.T, text string) labels.Selector {
	t.Helper()
	parsed, err := labels.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return parsed
}

func ask(t *testing.T, adapter *podMetrics, pods string) (*custom_metrics.MetricValueList, error) {
	t.Helper()
	return adapter.GetMetricBySelector(context.Background(), "edge", selector(t, pods), rps, labels.Everything())
}

func TestASelectorGetsAValueForEachOfItsPods(t *testing.T) {
	fake := &fakePrometheus{status: http.StatusOK, body: vector(
		`{"metric":{"pod":"gw-0"},"value":[1700000000.25,"41.2346"]},{"metric":{"pod":"gw-1"},"value":[1700000000.25,"0"]}`)}
	adapter := newAdapter(t, fake)
	list, err := ask(t, adapter, "app=gateway")
	if err != nil {
		t.Fatal(err)
	}
	want := `max by (pod) (http_requests_per_second{namespace="edge",pod=~"gw-0|gw-1"})`
	if fake.query != want {
		t.Errorf("asked %s, wanted %s", fake.query, want)
	}
	var got []string
	for _, item := range list.Items {
		got = append(got, fmt.Sprint(item.DescribedObject.APIVersion, " ", item.DescribedObject.Kind, " ",
			item.DescribedObject.Namespace, "/", item.DescribedObject.Name, " ", item.Metric.Name, " ",
			item.Value.String(), " ", item.Timestamp.UnixMilli()))
	}
	wanted := []string{
		"v1 Pod edge/gw-0 http_requests_per_second 41235m 1700000000250",
		"v1 Pod edge/gw-1 http_requests_per_second 0 1700000000250",
	}
	if !slices.Equal(got, wanted) {
		t.Errorf("got %q, wanted %q", got, wanted)
	}
}

func TestPodsWithoutANumberAreLeftOut(t *testing.T) {
	adapter := newAdapter(t, &fakePrometheus{status: http.StatusOK, body: vector(
		`{"metric":{"pod":"gw-0"},"value":[1700000000,"NaN"]},{"metric":{"pod":"gw-1"},"value":[1700000000,"+Inf"]}`)})
	list, err := ask(t, adapter, "app=gateway")
	if err != nil || len(list.Items) != 0 {
		t.Errorf("got %v, %v", list, err)
	}
	pod := types.NamespacedName{Namespace: "edge", Name: "gw-0"}
	_, err = adapter.GetMetricByName(context.Background(), pod, rps, nil)
	if !apierrors.IsNotFound(err) {
		t.Errorf("one pod without a number: %v", err)
	}
}

func TestNoPodsNoQuestion(t *testing.T) {
	fake := &fakePrometheus{status: http.StatusInternalServerError}
	adapter := newAdapter(t, fake)
	list, err := ask(t, adapter, "app=other")
	if err != nil || len(list.Items) != 0 || fake.query != "" {
		t.Errorf("got %v, %v after asking %q", list, err, fake.query)
	}
}

func TestOnePodByName(t *testing.T) {
	fake := &fakePrometheus{status: http.StatusOK, body: vector(`{"metric":{"pod":"gw.0"},"value":[1700000000,"3"]}`)}
	adapter := newAdapter(t, fake)
	pod := types.NamespacedName{Namespace: "edge", Name: "gw.0"}
	value, err := adapter.GetMetricByName(context.Background(), pod, rps, labels.Everything())
	if err != nil || value.Value.String() != "3" || value.DescribedObject.Name != "gw.0" {
		t.Fatalf("got %v, %v", value, err)
	}
	// A point in a name is no wildcard.
	if want := `max by (pod) (http_requests_per_second{namespace="edge",pod=~"gw\\.0"})`; fake.query != want {
		t.Errorf("asked %s, wanted %s", fake.query, want)
	}
}

func TestWhatIsNotServedIsRefusedAndNotAsked(t *testing.T) {
	fake := &fakePrometheus{status: http.StatusOK, body: vector(`{"metric":{"pod":"gw-0"},"value":[1700000000,"3"]}`)}
	adapter := newAdapter(t, fake)
	other := rps
	other.Metric = "memory_usage_bytes"
	services := rps
	services.GroupResource = schema.GroupResource{Resource: "services"}
	cases := []struct {
		name     string
		info     provider.CustomMetricInfo
		selector string
		refused  func(error) bool
	}{
		{"a metric that is not on the list", other, "", apierrors.IsNotFound},
		{"a metric of Services", services, "", apierrors.IsNotFound},
		{"a selector of labels of the metric", rps, "verb=GET", apierrors.IsBadRequest},
	}
	for _, c := range cases {
		_, err := adapter.GetMetricBySelector(
			context.Background(), "edge", selector(t, "app=gateway"), c.info, selector(t, c.selector))
		if !c.refused(err) || fake.query != "" {
			t.Errorf("%s: got %v after asking %q", c.name, err, fake.query)
		}
		_, err = adapter.GetMetricByName(
			context.Background(), types.NamespacedName{Namespace: "edge", Name: "gw-0"}, c.info, selector(t, c.selector))
		if !c.refused(err) || fake.query != "" {
			t.Errorf("%s, by name: got %v after asking %q", c.name, err, fake.query)
		}
	}
}

func TestAnAnswerThatIsNoVectorIsAnError(t *testing.T) {
	cases := []struct {
		name, body string
		status     int
		want       string
	}{
		{"an error", `{"status":"error","error":"query timed out"}`, http.StatusServiceUnavailable, "query timed out"},
		{"an error with 200", `{"status":"error","error":"odd"}`, http.StatusOK, "odd"},
		{"a page", `<html>`, http.StatusOK, "not its JSON"},
		{"a scalar", `{"status":"success","data":{"resultType":"scalar","result":[]}}`, http.StatusOK, "scalar"},
		{"a value that is no number", vector(`{"metric":{"pod":"gw-0"},"value":[1700000000,"many"]}`), http.StatusOK, "many"},
		{"an endless answer", strings.Repeat(" ", answerBytesMax+1), http.StatusOK, "longer than"},
	}
	for _, c := range cases {
		adapter := newAdapter(t, &fakePrometheus{status: c.status, body: c.body})
		list, err := ask(t, adapter, "app=gateway")
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, %v", c.name, list, err)
		}
	}
}

func TestDiscoveryShowsTheListedMetricsForPods(t *testing.T) {
	adapter := &podMetrics{metrics: []string{"a", "b"}}
	var got []string
	for _, info := range adapter.ListAllMetrics() {
		got = append(got, info.String())
	}
	if want := []string{"pods/a(namespaced)", "pods/b(namespaced)"}; !slices.Equal(got, want) {
		t.Errorf("got %q, wanted %q", got, want)
	}
}

func TestTheAddressOfPrometheusIsAWholeURL(t *testing.T) {
	for _, address := range []string{"", "prometheus:9090", "10.96.0.7", "ftp://prometheus", "http://:9090", "http://%"} {
		if _, err := newPrometheus(address, time.Second); err == nil {
			t.Errorf("%q was taken", address)
		}
	}
	made, err := newPrometheus("http://10.96.0.7:9090", time.Second)
	if err != nil || made.queryURL != "http://10.96.0.7:9090/api/v1/query" {
		t.Errorf("got %v, %v", made, err)
	}
}
