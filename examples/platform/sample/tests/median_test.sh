. ./src/median.sh

for numbers in "5" "9 1 5" "7 5 3 9 1" "5 5 5 5 5 5 5"; do
    # Unquoted: each number is an argument.
    middle=$(median $numbers)
    if [ "$middle" != 5 ]; then
        echo "median $numbers: expected 5, found $middle"
        exit 1
    fi
done
