. ./src/add.sh

expected=0
for number in 1 2 3 4 5 6 7 8 9 10; do
    expected=$((expected + number))
    sum=$(add "$((expected - number))" "$number")
    if [ "$sum" != "$expected" ]; then
        echo "add $((expected - number)) $number: expected $expected, found $sum"
        exit 1
    fi
done
