#!/bin/sh
# Makes sure of a voice for 'make dev': installs espeak-ng where that is
# possible, and says what it did. Without one, the tone speaks.
command -v espeak-ng >/dev/null && exit 0
echo "There is no espeak-ng yet; it is the voice of the reference worker."
if command -v apt-get >/dev/null; then
	run=""
	[ "$(id -u)" = 0 ] || run="sudo -n"
	echo "Installing it: $run apt-get install espeak-ng"
	if $run apt-get update -qq >/dev/null 2>&1 && DEBIAN_FRONTEND=noninteractive $run apt-get install -y -qq espeak-ng >/dev/null 2>&1; then
		echo "Installed."
		exit 0
	fi
	echo "It could not be installed (no privileges, or no network)."
fi
cat <<'TXT'

  **********************************************************************
  *  THERE IS NO VOICE: every text will be a 440 Hz tone.              *
  *  For speech: sudo apt-get install espeak-ng, or                    *
  *  brew install espeak-ng; then 'make dev' again.                    *
  **********************************************************************

TXT
