# Running the C++ tests under an emulator. Sourced, after setup.sh, by bash scripts that set -euo pipefail.

failures=()

# These read hundreds of megabytes of made-up files: minutes natively, hours here, and nothing in them depends on the CPU.
too_long_to_emulate='^(test_gguf_hostile)$'

# emulate FOLDER TABLE EMULATOR...: runs every test program in FOLDER, and checks that TABLE's kernels were chosen.
emulate() {
  local folder=$1 table=$2 program name output
  shift 2
  say "$*"
  for program in "$folder"/test_*; do
    name=$(basename "$program")
    if [ ! -x "$program" ] || [ -d "$program" ] || [[ $name =~ $too_long_to_emulate ]]; then
      continue
    fi
    if output=$("$@" "$program" 2>&1); then
      printf '%-28s %s\n' "$name" "$(tail -n 1 <<<"$output")"
    else
      printf '%s\n' "$output"
      failures+=("$name under $*")
    fi
    if [ "$name" = test_kernels ] && ! grep -q "best: $table\$" <<<"$output"; then
      failures+=("$* did not choose the kernels $table")
    fi
  done
}

# report: what failed; the exit code of the last command is that of the script.
report() {
  [ ${#failures[@]} -eq 0 ] || printf 'FAILED: %s\n' "${failures[@]}"
  [ ${#failures[@]} -eq 0 ]
}
