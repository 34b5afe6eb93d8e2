{{/* Name of every object of the release, short enough for a suffix such as -metrics. */}}
{{- define "kronos-operator.fullname" -}}
{{- $default := contains .Chart.Name .Release.Name | ternary .Release.Name (printf "%s-%s" .Release.Name .Chart.Name) -}}
{{- .Values.fullnameOverride | default $default | trunc 52 | trimSuffix "-" -}}
{{- end }}

{{- define "kronos-operator.serviceAccountName" -}}
{{- .Values.serviceAccount.name | default (.Values.serviceAccount.create | ternary (include "kronos-operator.fullname" .) "default") -}}
{{- end }}

{{- define "kronos-operator.trainerImage" -}}
{{- printf "%s:%s" .Values.trainer.image.repository (.Values.trainer.image.tag | default .Chart.AppVersion) -}}
{{- end }}

{{- define "kronos-operator.selectorLabels" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "kronos-operator.labels" -}}
{{ include "kronos-operator.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{/* The kinds of workload that the operator makes, and where in one, as CEL, the specs of its pods are. */}}
{{- define "kronos-operator.workloads" -}}
- group: batch
  resource: jobs
  pods: "[variables.child.spec.template.spec]"
- group: kubeflow.org
  resource: pytorchjobs
  pods: |-
    variables.child.spec.pytorchReplicaSpecs.map(role,
    variables.child.spec.pytorchReplicaSpecs[role].template.spec)
{{- end }}

{{/* All that the operator may do. It reads no Secret, sees no volume, and writes nothing of a KronosModel but its status. */}}
{{- define "kronos-operator.rules" -}}
- apiGroups: [kronos.io]
  resources: [kronosmodels]
  verbs: [get, list, watch]
- apiGroups: [kronos.io]
  resources: [kronosmodels/status]
  verbs: [get, patch]
{{- range include "kronos-operator.workloads" . | fromYamlArray }}
- apiGroups: [{{ .group }}]
  resources: [{{ .resource }}]
  verbs: [create, get, list, watch, delete, deletecollection]
{{- end }}
- apiGroups: [""]
  resources: [services, configmaps]
  verbs: [create, get, list, watch, delete, deletecollection]
- apiGroups: [""]
  resources: [pods]
  verbs: [get, list, watch]
- apiGroups: [""]
  resources: [pods/log]
  verbs: [get]
- apiGroups: [""]
  resources: [events]
  verbs: [list, watch]
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create, patch]
- apiGroups: [""]
  resources: [persistentvolumeclaims]
  verbs: [get]
- apiGroups: [kueue.x-k8s.io]
  resources: [workloads]
  verbs: [get, list, watch]
{{- if empty .Values.namespaces }}
# To report the taint that evicted a gang. Namespaced roles cannot grant this: status then names only the node.
- apiGroups: [""]
  resources: [nodes]
  verbs: [get]
{{- end }}
{{- end }}
