{{/* Arguments of `baribhara run`. */}}
{{- define "baribhara-gateway.args" -}}
{{- $v := .Values }}
- run
- {{ printf "--http=[::]:%d" (int $v.containerPorts.http) | quote }}
- {{ printf "--https=[::]:%d" (int $v.containerPorts.https) | quote }}
- {{ printf "--admin=[::]:%d" (int $v.containerPorts.admin) | quote }}
- {{ printf "--ingress-class=%s" $v.ingressClass.name | quote }}
{{- with $v.watchNamespaces }}
- {{ printf "--watch-namespace=%s" (join "," (uniq .)) | quote }}
{{- end }}
{{- if $v.publish.addresses }}
{{- range $v.publish.addresses }}
- {{ printf "--publish-address=%s" . | quote }}
{{- end }}
{{- else if $v.publish.service }}
- {{ printf "--publish-service=%s/%s" .Release.Namespace (include "baribhara-gateway.fullname" .) | quote }}
{{- end }}
- {{ printf "--lease-name=%s" (include "baribhara-gateway.leaseName" .) | quote }}
{{- if eq $v.kind "Deployment" }}
- {{ printf "--owner-deployment=%s" (include "baribhara-gateway.fullname" .) | quote }}
{{- end }}
{{- if $v.lastGood.enabled }}
- --last-good=/var/lib/baribhara/last-good
{{- end }}
- {{ printf "--lame-duck=%ds" (int $v.shutdown.lameDuckSeconds) | quote }}
- {{ printf "--drain=%ds" (int $v.shutdown.drainSeconds) | quote }}
- {{ printf "--access-log=%s" $v.gateway.accessLog | quote }}
- {{ printf "--log-format=%s" $v.gateway.logFormat | quote }}
{{- with $v.gateway.workers }}
- {{ printf "--workers=%d" (int .) | quote }}
{{- end }}
{{- with $v.gateway.memoryBudget }}
- {{ printf "--memory-budget=%s" . | quote }}
{{- end }}
{{- with $v.gateway.maxConnections }}
- {{ printf "--max-connections=%d" (int .) | quote }}
{{- end }}
{{- with $v.gateway.trustedProxies }}
- {{ printf "--trusted-proxies=%s" (join "," .) | quote }}
{{- end }}
{{- with $v.gateway.proxyProtocol }}
- {{ printf "--proxy-protocol=%s" (join "," .) | quote }}
{{- end }}
{{- with $v.gateway.defaultTlsSecret }}
- {{ printf "--default-tls-secret=%s" . | quote }}
{{- end }}
{{- with $v.gateway.affinityKeySecret }}
- {{ printf "--affinity-key-secret=%s" . | quote }}
{{- end }}
{{- range $flag := list "readTimeout" "writeTimeout" "handshakeTimeout" "idleTimeout" "maxHead" "maxConnectionAge" "upstreamIdle" "h2c" "underscoreHeaders" }}
{{- with index $v.gateway $flag }}
- {{ printf "--%s=%s" (kebabcase $flag) . | quote }}
{{- end }}
{{- end }}
{{- range $flag := list "debugErrors" "allowExternalBackends" "allowLocalEndpoints" "allowPrivateJwks" }}
{{- if index $v.gateway $flag }}
- {{ printf "--%s" (kebabcase $flag) }}
{{- end }}
{{- end }}
{{- range $v.extraArgs }}
- {{ . | quote }}
{{- end }}
{{- end }}

{{/* Annotations of pods; those of podAnnotations win. */}}
{{- define "baribhara-gateway.podAnnotations" -}}
{{- $own := dict }}
{{- if .Values.metrics.scrapeAnnotations }}
{{- $port := printf "%d" (int .Values.containerPorts.admin) }}
{{- $own = dict "prometheus.io/scrape" "true" "prometheus.io/port" $port "prometheus.io/path" "/metrics" }}
{{- end }}
{{- with mergeOverwrite $own (deepCopy .Values.podAnnotations) }}
{{- toYaml . }}
{{- end }}
{{- end }}

{{/* Spread constraints, completed by what only the chart knows: which pods they are about. */}}
{{- define "baribhara-gateway.topologySpread" -}}
{{- $root := . }}
{{- $constraints := list }}
{{- range .Values.topologySpreadConstraints }}
{{- $constraint := deepCopy . }}
{{- if not (hasKey $constraint "labelSelector") }}
{{- $_ := set $constraint "labelSelector" (dict "matchLabels" (include "baribhara-gateway.selectorLabels" $root | fromYaml)) }}
{{- if and (eq $root.Values.kind "Deployment") (not (hasKey $constraint "matchLabelKeys")) }}
{{- $_ := set $constraint "matchLabelKeys" (list "pod-template-hash") }}
{{- end }}
{{- end }}
{{- $constraints = append $constraints $constraint }}
{{- end }}
{{- toYaml $constraints }}
{{- end }}

{{/* The container that runs the gateway. */}}
{{- define "baribhara-gateway.container" -}}
{{- $v := .Values -}}
name: gateway
image: {{ include "baribhara-gateway.image" . | quote }}
imagePullPolicy: {{ $v.image.pullPolicy }}
args:
  {{- include "baribhara-gateway.args" . | trim | nindent 2 }}
env:
  - name: POD_NAME
    valueFrom: {fieldRef: {fieldPath: metadata.name}}
  - name: POD_NAMESPACE
    valueFrom: {fieldRef: {fieldPath: metadata.namespace}}
  - name: POD_UID
    valueFrom: {fieldRef: {fieldPath: metadata.uid}}
  - name: POD_IP
    valueFrom: {fieldRef: {fieldPath: status.podIP}}
  # Kubernetes 1.35 and later labels pods so; without the label it is empty.
  - name: BARIBHARA_ZONE
    valueFrom: {fieldRef: {fieldPath: "metadata.labels['topology.kubernetes.io/zone']"}}
  - name: BARIBHARA_REGION
    valueFrom: {fieldRef: {fieldPath: "metadata.labels['topology.kubernetes.io/region']"}}
  - name: RUST_LOG
    value: {{ $v.gateway.logLevel | quote }}
  {{- with $v.extraEnv }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- with $v.extraEnvFrom }}
envFrom:
  {{- toYaml . | nindent 2 }}
{{- end }}
ports:
  {{- range $name := list "http" "https" }}
  - name: {{ $name }}
    containerPort: {{ index $v.containerPorts $name | int }}
    {{- if $v.hostPorts.enabled }}
    hostPort: {{ index $v.hostPorts $name | int }}
    {{- end }}
    protocol: TCP
  {{- end }}
  - name: admin
    containerPort: {{ int $v.containerPorts.admin }}
    protocol: TCP
startupProbe:
  httpGet: {path: /livez, port: admin}
  {{- toYaml $v.probes.startup | nindent 2 }}
readinessProbe:
  httpGet: {path: /readyz, port: admin}
  {{- toYaml $v.probes.readiness | nindent 2 }}
livenessProbe:
  httpGet: {path: /livez, port: admin}
  {{- toYaml $v.probes.liveness | nindent 2 }}
resources:
  {{- toYaml $v.resources | nindent 2 }}
securityContext:
  {{- toYaml $v.securityContext | nindent 2 }}
{{- if or $v.lastGood.enabled $v.extraVolumeMounts }}
volumeMounts:
  {{- if $v.lastGood.enabled }}
  - name: last-good
    mountPath: /var/lib/baribhara
  {{- end }}
  {{- with $v.extraVolumeMounts }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end }}
{{- end }}

{{/* What the template of the Deployment and that of the DaemonSet share: all of it. */}}
{{- define "baribhara-gateway.podTemplate" -}}
{{- $v := .Values -}}
metadata:
  labels:
    {{- $labels := mergeOverwrite (deepCopy $v.commonLabels) $v.podLabels (include "baribhara-gateway.selectorLabels" . | fromYaml) }}
    {{- toYaml $labels | nindent 4 }}
  {{- with include "baribhara-gateway.podAnnotations" . }}
  annotations:
    {{- . | nindent 4 }}
  {{- end }}
spec:
  serviceAccountName: {{ include "baribhara-gateway.serviceAccountName" . }}
  automountServiceAccountToken: true
  # Variables of Services would look like flags: BARIBHARA_GATEWAY_PORT=tcp://…
  enableServiceLinks: false
  terminationGracePeriodSeconds: {{ include "baribhara-gateway.grace" . }}
  {{- if $v.hostNetwork }}
  hostNetwork: true
  {{- end }}
  {{- with default (ternary "ClusterFirstWithHostNet" "" $v.hostNetwork) $v.dnsPolicy }}
  dnsPolicy: {{ . }}
  {{- end }}
  {{- with $v.dnsConfig }}
  dnsConfig:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $v.imagePullSecrets }}
  imagePullSecrets:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $v.priorityClassName }}
  priorityClassName: {{ . }}
  {{- end }}
  {{- with $v.runtimeClassName }}
  runtimeClassName: {{ . }}
  {{- end }}
  {{- with $v.podSecurityContext }}
  securityContext:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $v.initContainers }}
  initContainers:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  containers:
    - {{ include "baribhara-gateway.container" . | indent 6 | trim }}
    {{- with $v.extraContainers }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- if or $v.lastGood.enabled $v.extraVolumes }}
  volumes:
    {{- if $v.lastGood.enabled }}
    # In memory only: the copy holds Secrets.
    - name: last-good
      emptyDir: {medium: Memory, sizeLimit: {{ $v.lastGood.sizeLimit }}}
    {{- end }}
    {{- with $v.extraVolumes }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- end }}
  {{- with $v.nodeSelector }}
  nodeSelector:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $v.tolerations }}
  tolerations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $v.affinity }}
  affinity:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- if $v.topologySpreadConstraints }}
  topologySpreadConstraints:
    {{- include "baribhara-gateway.topologySpread" . | nindent 4 }}
  {{- end }}
{{- end }}
