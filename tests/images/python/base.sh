#!/usr/bin/env bash
# python:3.11-slim-bookworm, put together from Debian's own packages: Debian 12 with its Python 3.11 as `python`.
#   base.sh TAG
# It trusts the certificates that this machine trusts, or pip inside could not reach what it reaches outside:
# never push an image built on it.
set -euo pipefail
tag=$1
mirror=$(sed -n 's/^URIs: //p' /etc/apt/sources.list.d/*.sources 2>/dev/null | head -n 1)
work=$(mktemp -d -p "$([ -w /dev/shm ] && echo /dev/shm || echo /tmp)")
trap 'rm -rf "$work"' EXIT
certificates='c=/usr/local/share/ca-certificates
    ls $c/*.crt >/dev/null 2>&1 || exit 0
    cp $c/*.crt "$1$c/" && chroot "$1" update-ca-certificates'
python='ln -s python3 "$1/usr/bin/python" && rm -f "$1"/usr/lib/python3*/EXTERNALLY-MANAGED'
bundle=/etc/ssl/certs/ca-certificates.crt

TMPDIR=$work mmdebstrap --quiet --variant=minbase --include=ca-certificates,curl,python3,python3-pip \
    --aptopt='Acquire::Check-Valid-Until "false"' --aptopt='Acquire::Check-Date "false"' \
    --aptopt='Acquire::Languages "none"' --aptopt='APT::Install-Recommends "false"' \
    --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
    --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-include=/usr/share/doc/*/copyright' \
    --dpkgopt=force-unsafe-io --customize-hook="$certificates" --customize-hook="$python" \
    bookworm - ${mirror:+"$mirror"} |
    docker import -c 'CMD ["python3"]' -c "ENV PIP_CERT=$bundle SSL_CERT_FILE=$bundle REQUESTS_CA_BUNDLE=$bundle" \
        -c 'LABEL rag-service.stand-in="Debian 12 with its Python 3.11"' - "$tag"
