{{- define "kveil.image" -}}
{{- printf "%s:%s" .Values.image.repository (.Values.image.tag | default .Chart.AppVersion) -}}
{{- end -}}

{{/* The root key file, where the Secret brings one: not with a key service or a token. */}}
{{- define "kveil.rootKeyFile" -}}
{{- dig "keys" "root" "file" "" .Values.config -}}
{{- end -}}

{{/* Where metrics and /healthz are: ADDRESS:PORT. */}}
{{- define "kveil.metrics" -}}
{{- dig "admin" "metrics" "127.0.0.1:9464" .Values.config -}}
{{- end -}}

{{- define "kveil.startupTaint" -}}
{{- dig "kubernetes" "startupTaint" "" .Values.config -}}
{{- end -}}
