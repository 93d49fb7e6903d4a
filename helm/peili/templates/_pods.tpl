{{/* What the chart's pods and containers have in common. */}}

{{/* A user's text as a pod's manifest takes it: Kubernetes reads $(NAME) and $$ in values and arguments. */}}
{{- define "peili.literal" -}}
{{- . | toString | replace "$" "$$" | quote -}}
{{- end -}}

{{/* on and off are booleans in YAML, unless somebody quoted them. */}}
{{- define "peili.word" -}}
{{- if kindIs "bool" . -}}
{{- ternary "on" "off" . | quote -}}
{{- else -}}
{{- . | quote -}}
{{- end -}}
{{- end -}}

{{/* Spegel's are in upper case, and call a warning WARN. */}}
{{- define "peili.logLevel" -}}
{{- $level := lower .Values.peili.logLevel -}}
{{- ternary "warning" $level (eq $level "warn") | quote -}}
{{- end -}}

{{/* Spegel's are addresses (https://ghcr.io), ours are names (ghcr.io). */}}
{{- define "peili.mirrorArgs" -}}
{{- range .Values.peili.mirroredRegistries }}
- {{ include "peili.literal" (printf "--mirror=%s" (. | trimPrefix "https://" | trimPrefix "http://")) }}
{{- end }}
{{- end -}}

{{/* Where the daemon listens for this host: a forwarded port ends at the pod's address, never at its loopback. */}}
{{- define "peili.localHost" -}}
{{- ternary "127.0.0.1" "" (eq .Values.network.mode "host") -}}
{{- end -}}

{{/* Where containerd asks. A node port is on the loopback, too, where kube-proxy forwards it from there. */}}
{{- define "peili.askedAt" -}}
{{- if eq .Values.network.mode "nodePort" -}}
{{ printf "127.0.0.1:%v" .Values.service.registry.nodePort }}
{{- else -}}
{{ printf "%s:%v" (include "peili.localHost" .) .Values.service.registry.port }}
{{- end -}}
{{- end -}}

{{/* Behind a node port another host's containerd may ask. A daemon that steers would wait for its own to fetch, so it is a
plain mirror then: no claims, and no tags, for which it would have to ask the registry. */}}
{{- define "peili.origin" -}}
{{- include "peili.plainWord" (dict "context" . "word" .Values.peili.origin "unless" "steer") -}}
{{- end -}}
{{- define "peili.tags" -}}
{{- include "peili.plainWord" (dict "context" . "word" .Values.peili.tags "unless" "upstream") -}}
{{- end -}}

{{/* A word of a setting, or off where it is the one that a plain mirror does without. Takes context, word, unless. */}}
{{- define "peili.plainWord" -}}
{{- $word := include "peili.word" .word -}}
{{- ternary (quote "off") $word (and (eq .context.Values.network.mode "nodePort") (eq $word (quote .unless))) -}}
{{- end -}}

{{/* The host's network for what must be reached at the host's address. */}}
{{- define "peili.podNetwork" -}}
{{- if eq .Values.network.mode "host" -}}
hostNetwork: true
dnsPolicy: ClusterFirstWithHostNet
{{- else -}}
hostNetwork: false
dnsPolicy: ClusterFirst
{{- end -}}
{{- end -}}

{{/* Of every pod. Service links would put a variable for each Service of the namespace into it, some called PEILI_. */}}
{{- define "peili.podBasics" -}}
enableServiceLinks: false
automountServiceAccountToken: false
{{- with .Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
securityContext:
  {{- toYaml .Values.podSecurityContext | nindent 2 }}
{{- end -}}

{{/* Where the daemon runs, and so does what cleans up after it. */}}
{{- define "peili.placement" -}}
{{- with .Values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .Values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* Of every container. */}}
{{- define "peili.containerBasics" -}}
image: {{ include "peili.image" . | quote }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
# Why it ended is seen without its log.
terminationMessagePolicy: FallbackToLogsOnError
securityContext:
  {{- toYaml .Values.securityContext | nindent 2 }}
resources:
  {{- toYaml .Values.resources | nindent 2 }}
{{- end -}}

{{/* The hosts directory, or the one above it, at the same path as on the host. */}}
{{- define "peili.hostsMount" -}}
{{- $directory := .Values.peili.containerdRegistryConfigPath | trimSuffix "/" -}}
{{- $parent := dir $directory -}}
{{- if and .Values.peili.mountHostsDirParent (ne $parent "/") -}}{{ $parent }}{{- else -}}{{ $directory }}{{- end -}}
{{- end -}}

{{/* The data directory, or the one above it. */}}
{{- define "peili.dataRemovalMount" -}}
{{- $directory := .Values.peili.dataDir | trimSuffix "/" -}}
{{- $parent := dir $directory -}}
{{- if and .Values.cleanup.mountDataDirParent (ne $parent "/") -}}{{ $parent }}{{- else -}}{{ $directory }}{{- end -}}
{{- end -}}

{{/* config_path as containerd has it. Where only the hosts directory is mounted it cannot have a colon, and is said to have
none: else configure would write beside the hosts directory for containerd 2.2 and later. */}}
{{- define "peili.configPath" -}}
{{- $told := .Values.peili.containerdConfigPath -}}
{{- if .Values.peili.mountHostsDirParent -}}
{{- $told -}}
{{- else if contains ":" $told -}}
{{- fail "peili.mountHostsDirParent: false mounts only the hosts directory, and the files for peili.containerdConfigPath, which has a colon, stand beside it" -}}
{{- else -}}
{{- default .Values.peili.containerdRegistryConfigPath $told -}}
{{- end -}}
{{- end -}}
