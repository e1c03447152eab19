#!/usr/bin/env bash
# Sourced: lets git use GITHUB_TOKEN for this repository, without writing it to a file or to argv.
: "${GITHUB_TOKEN:?}" "${GITHUB_SERVER_URL:?}"
basic=$(printf 'x-access-token:%s' "$GITHUB_TOKEN" | base64 --wrap=0)
echo "::add-mask::$basic"
export GIT_CONFIG_COUNT=1
export GIT_CONFIG_KEY_0=http.$GITHUB_SERVER_URL/.extraheader
export GIT_CONFIG_VALUE_0="Authorization: basic $basic"
