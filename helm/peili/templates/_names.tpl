{{/* Names and labels of every object. */}}

{{- define "peili.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{/* Cut so that the longest suffix of the chart (-cleanup-wait) still fits into the 63 letters of a DNS label. */}}
{{- define "peili.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- $name := include "peili.name" . -}}
{{- if contains $name .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "peili.namespace" -}}
{{- default .Release.Namespace .Values.namespaceOverride -}}
{{- end -}}

{{/* What selects pods. The component keeps pods of an uninstall out of the daemons' Services. Takes context, component. */}}
{{- define "peili.selector" -}}
app.kubernetes.io/name: {{ include "peili.name" .context }}
app.kubernetes.io/instance: {{ .context.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end -}}

{{- define "peili.labels" -}}
{{ include "peili.selector" . }}
app.kubernetes.io/version: {{ .context.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .context.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .context.Chart.Name .context.Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{- with .context.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* Labels of pods: without the version, with which each release would replace pods that are the same. */}}
{{- define "peili.podLabels" -}}
{{ include "peili.selector" . }}
{{- with .context.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "peili.image" -}}
{{- if .Values.image.digest -}}
{{- printf "%s@%s" .Values.image.repository .Values.image.digest -}}
{{- else -}}
{{- printf "%s:%s" .Values.image.repository (default .Chart.AppVersion .Values.image.tag) -}}
{{- end -}}
{{- end -}}

{{- define "peili.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "peili.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "peili.secretName" -}}
{{- default (printf "%s-cluster" (include "peili.fullname" .)) .Values.clusterSecret.existingSecret -}}
{{- end -}}

{{/* A name in the DNS of the cluster. Takes context, service. */}}
{{- define "peili.dnsName" -}}
{{- printf "%s.%s.svc.%s" .service (include "peili.namespace" .context) .context.Values.clusterDomain -}}
{{- end -}}
