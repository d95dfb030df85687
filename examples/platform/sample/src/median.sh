# The middle one of an odd number of numbers.
median() {
    middle=$((($# + 1) / 2))
    printf '%s\n' "$@" | sort -n | sed -n "${middle}p"
}
