{{/* Names. A Service's name has at most 63 characters; the cut leaves no dash at the end. */}}
{{- define "baribhara-gateway.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "baribhara-gateway.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" }}
{{- else }}
{{- $name := default .Chart.Name .Values.nameOverride }}
{{- if contains $name .Release.Name }}
{{- .Release.Name | trunc 63 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name $name | trunc 63 | trimSuffix "-" }}
{{- end }}
{{- end }}
{{- end }}

{{/* Name of an object beside the main one: list CONTEXT SUFFIX. */}}
{{- define "baribhara-gateway.suffixed" -}}
{{- $suffix := index . 1 }}
{{- $room := sub 62 (len $suffix) | int }}
{{- printf "%s-%s" (include "baribhara-gateway.fullname" (index . 0) | trunc $room | trimSuffix "-") $suffix }}
{{- end }}

{{/* Name of an object of the whole cluster: releases of one name in two namespaces must not meet. */}}
{{- define "baribhara-gateway.clusterName" -}}
{{- printf "%s-%s" (include "baribhara-gateway.fullname" .) .Release.Namespace }}
{{- end }}

{{- define "baribhara-gateway.serviceAccountName" -}}
{{- if .Values.serviceAccount.create }}
{{- default (include "baribhara-gateway.fullname" .) .Values.serviceAccount.name }}
{{- else }}
{{- default "default" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{/* The Lease by which the leader is chosen. A Deployment owns its Lease; a DaemonSet's is an object of the chart, under
     a name of its own, so that a release can change its kind. */}}
{{- define "baribhara-gateway.leaseName" -}}
{{- if eq .Values.kind "DaemonSet" }}
{{- include "baribhara-gateway.suffixed" (list . "daemonset") }}
{{- else }}
{{- include "baribhara-gateway.fullname" . }}
{{- end }}
{{- end }}

{{- define "baribhara-gateway.chart" -}}
{{- printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "baribhara-gateway.selectorLabels" -}}
app.kubernetes.io/name: {{ include "baribhara-gateway.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "baribhara-gateway.labels" -}}
helm.sh/chart: {{ include "baribhara-gateway.chart" . }}
{{ include "baribhara-gateway.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "baribhara-gateway.image" -}}
{{- $image := .Values.image }}
{{- if $image.digest }}
{{- printf "%s@%s" $image.repository $image.digest }}
{{- else }}
{{- printf "%s:%s" $image.repository (default .Chart.AppVersion $image.tag) }}
{{- end }}
{{- end }}

{{/* A number as a text. Helm reads the numbers of values.yaml as floats, and a large one would be written as 1e+06. */}}
{{- define "baribhara-gateway.number" -}}
{{- if kindIs "float64" . }}{{ int64 . }}{{ else }}{{ . }}{{ end }}
{{- end }}

{{/* Time from SIGTERM to SIGKILL: the gateway's own two times and five seconds to end. */}}
{{- define "baribhara-gateway.grace" -}}
{{- $least := add (int .Values.shutdown.lameDuckSeconds) (int .Values.shutdown.drainSeconds) 5 }}
{{- $grace := int (default $least .Values.terminationGracePeriodSeconds) }}
{{- if lt $grace (int $least) }}
{{- fail (printf "terminationGracePeriodSeconds is %d, but shutdown.lameDuckSeconds + shutdown.drainSeconds + 5 = %d: requests in flight would be cut off" $grace $least) }}
{{- end }}
{{- $grace }}
{{- end }}

{{/* Whether an autoscaler owns the number of replicas. */}}
{{- define "baribhara-gateway.autoscaled" -}}
{{- if or .Values.autoscaling.enabled .Values.keda.enabled }}true{{ end }}
{{- end }}

{{/* What the schema cannot say about values that contradict each other. Included once, by the workload. */}}
{{- define "baribhara-gateway.validate" -}}
{{- $v := .Values }}
{{- if and $v.autoscaling.enabled $v.keda.enabled }}
{{- fail "autoscaling.enabled and keda.enabled exclude each other: KEDA makes a HorizontalPodAutoscaler of its own" }}
{{- end }}
{{- if and (eq $v.kind "DaemonSet") (include "baribhara-gateway.autoscaled" .) }}
{{- fail "kind: DaemonSet runs one pod a node: autoscaling.enabled and keda.enabled must be false" }}
{{- end }}
{{- range $section := list "autoscaling" "keda" }}
{{- with index $v $section }}
{{- if and .enabled (gt (int .minReplicas) (int .maxReplicas)) }}
{{- fail (printf "%s.minReplicas is greater than %s.maxReplicas" $section $section) }}
{{- end }}
{{- end }}
{{- end }}
{{- if and $v.hostNetwork $v.hostPorts.enabled }}
{{- fail "hostPorts has no meaning with hostNetwork: the gateway listens on containerPorts of the node; set hostPorts.enabled to false" }}
{{- end }}
{{- $ports := list (int $v.containerPorts.http) (int $v.containerPorts.https) (int $v.containerPorts.admin) }}
{{- if ne (len (uniq $ports)) 3 }}
{{- fail "containerPorts.http, .https and .admin must differ" }}
{{- end }}
{{- end }}
