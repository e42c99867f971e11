package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// answerBytesMax bounds what is read of an answer: some ten thousand pods.
const answerBytesMax = 4 << 20

// sample is the newest value of a metric for one pod.
type sample struct {
	pod   string
	value float64
	at    time.Time
}

// prometheus asks one Prometheus for the newest values of a metric.
type prometheus struct {
	queryURL string
	client   *http.Client
}

// newPrometheus takes the address up to, and without, /api/v1.
func newPrometheus(address string, timeout time.Duration) (*prometheus, error) {
	base, err := url.Parse(address)
	if err != nil {
		return nil, err
	}
	if (base.Scheme != "http" && base.Scheme != "https") || base.Hostname() == "" {
		return nil, fmt.Errorf("%q is not a URL like http://prometheus:9090", address)
	}
	return &prometheus{
		queryURL: base.JoinPath("api/v1/query").String(),
		client:   &http.Client{Timeout: timeout},
	}, nil
}

// podQuery is the expression for a metric of some pods. A pod that is scraped by two jobs counts once.
func podQuery(metric, namespace string, pods []string) string {
	patterns := make([]string, len(pods))
	for i, pod := range pods {
		patterns[i] = regexp.QuoteMeta(pod)
	}
	return fmt.Sprintf("max by (pod) (%s{namespace=%s,pod=~%s})",
		metric, strconv.Quote(namespace), strconv.Quote(strings.Join(patterns, "|")))
}

// podSamples has a sample for each of these pods of which Prometheus knows a number, and for no other.
func (p *prometheus) podSamples(ctx context.Context, metric, namespace string, pods []string) ([]sample, error) {
	if len(pods) == 0 {
		return nil, nil
	}
	// A form, because the names of many pods are longer than a URL may be.
	form := url.Values{"query": {podQuery(metric, namespace, pods)}}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, p.queryURL, strings.NewReader(form.Encode()))
	if err != nil {
		return nil, err
	}
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	response, err := p.client.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, answerBytesMax+1))
	if err != nil {
		return nil, err
	}
	if len(body) > answerBytesMax {
		return nil, fmt.Errorf("the answer of Prometheus is longer than %d bytes", answerBytesMax)
	}
	return readSamples(response.StatusCode, body)
}

// queryAnswer is what Prometheus' HTTP API answers to an instant query.
type queryAnswer struct {
	Status string `json:"status"`
	Error  string `json:"error"`
	Data   struct {
		ResultType string `json:"resultType"`
		Result     []struct {
			Metric map[string]string  `json:"metric"`
			Value  [2]json.RawMessage `json:"value"`
		} `json:"result"`
	} `json:"data"`
}

// readSamples leaves out values that are no number, which nothing can be scaled by.
func readSamples(status int, body []byte) ([]sample, error) {
	var answer queryAnswer
	if err := json.Unmarshal(body, &answer); err != nil {
		return nil, fmt.Errorf("Prometheus answered %d with something that is not its JSON: %w", status, err)
	}
	if status != http.StatusOK || answer.Status != "success" {
		return nil, fmt.Errorf("Prometheus answered %d: %s", status, answer.Error)
	}
	if answer.Data.ResultType != "vector" {
		return nil, fmt.Errorf("Prometheus answered a %q and not a vector", answer.Data.ResultType)
	}
	var samples []sample
	for _, result := range answer.Data.Result {
		var seconds float64
		var text string
		if err := json.Unmarshal(result.Value[0], &seconds); err != nil {
			return nil, fmt.Errorf("the time of a sample: %w", err)
		}
		if err := json.Unmarshal(result.Value[1], &text); err != nil {
			return nil, fmt.Errorf("the value of a sample: %w", err)
		}
		value, err := strconv.ParseFloat(text, 64)
		if err != nil {
			return nil, fmt.Errorf("the value of a sample: %w", err)
		}
		if math.IsNaN(value) || math.IsInf(value, 0) {
			continue
		}
		samples = append(samples, sample{
			pod:   result.Metric["pod"],
			value: value,
			at:    time.UnixMilli(int64(math.Round(seconds * 1000))),
		})
	}
	return samples, nil
}
