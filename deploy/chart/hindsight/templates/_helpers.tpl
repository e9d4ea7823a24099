{{/* Name of the objects of a role: <release>-<role>. */}}
{{- define "hindsight.name" -}}
{{- printf "%s-%s" .root.Release.Name .role | trunc 63 | trimSuffix "-" -}}
{{- end }}

{{- define "hindsight.selector" -}}
app.kubernetes.io/name: hindsight
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .role }}
{{- end }}

{{- define "hindsight.labels" -}}
{{ include "hindsight.selector" . }}
app.kubernetes.io/version: {{ .root.Values.image.tag | default .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
{{- with .root.Values.labels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "hindsight.serviceAccount" -}}
{{- .Values.serviceAccount.name | default .Release.Name -}}
{{- end }}

{{- define "hindsight.objstoreSecret" -}}
{{- if .Values.objectStorage.config }}{{ .Release.Name }}-objstore{{ else }}{{ required "objectStorage.existingSecret or objectStorage.config must be given" .Values.objectStorage.existingSecret }}{{ end -}}
{{- end }}

{{/* The head of the specification of a pod. */}}
{{- define "hindsight.podHead" -}}
serviceAccountName: {{ include "hindsight.serviceAccount" .root }}
automountServiceAccountToken: false
{{- with .root.Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
securityContext:
  {{- toYaml .root.Values.podSecurityContext | nindent 2 }}
terminationGracePeriodSeconds: {{ .values.terminationGracePeriodSeconds }}
{{- with .values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- $spread := .root.Values.topologySpread }}
{{- if or $spread.zones.enabled $spread.nodes.enabled }}
topologySpreadConstraints:
  {{- if $spread.zones.enabled }}
  - maxSkew: 1
    topologyKey: topology.kubernetes.io/zone
    whenUnsatisfiable: {{ $spread.zones.whenUnsatisfiable }}
    labelSelector:
      matchLabels:
        {{- include "hindsight.selector" . | nindent 8 }}
  {{- end }}
  {{- if $spread.nodes.enabled }}
  - maxSkew: 1
    topologyKey: kubernetes.io/hostname
    whenUnsatisfiable: {{ $spread.nodes.whenUnsatisfiable }}
    labelSelector:
      matchLabels:
        {{- include "hindsight.selector" . | nindent 8 }}
  {{- end }}
{{- end }}
{{- end }}

{{/* The head of the container of a role. */}}
{{- define "hindsight.containerHead" -}}
name: {{ .role }}
image: {{ printf "%s:%s" .root.Values.image.repository (.root.Values.image.tag | default .root.Chart.AppVersion) | quote }}
imagePullPolicy: {{ .root.Values.image.pullPolicy }}
securityContext:
  {{- toYaml .root.Values.containerSecurityContext | nindent 2 }}
resources:
  {{- toYaml .values.resources | nindent 2 }}
{{- end }}

{{/* Readiness says whether the role serves; a start that replays logs is not ready, and
     is not killed. */}}
{{- define "hindsight.probes" -}}
readinessProbe:
  httpGet: {path: /-/ready, port: http}
  periodSeconds: 5
livenessProbe:
  httpGet: {path: /-/healthy, port: http}
  periodSeconds: 30
  failureThreshold: 8
{{- end }}

{{- define "hindsight.volumeClaim" -}}
metadata:
  name: data
spec:
  accessModes: [ReadWriteOnce]
  {{- with .className }}
  storageClassName: {{ . }}
  {{- end }}
  resources:
    requests:
      storage: {{ .size }}
{{- end }}

{{- define "hindsight.pdb" -}}
{{- if .values.pdb }}
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  name: {{ include "hindsight.name" . }}
  namespace: {{ .root.Release.Namespace }}
  labels:
    {{- include "hindsight.labels" . | nindent 4 }}
spec:
  {{- toYaml .values.pdb | nindent 2 }}
  # A pod that is not ready is no reason to keep a node.
  unhealthyPodEvictionPolicy: {{ if eq .role "receive" }}IfHealthyBudget{{ else }}AlwaysAllow{{ end }}
  selector:
    matchLabels:
      {{- include "hindsight.selector" . | nindent 6 }}
{{- end }}
{{- end }}
